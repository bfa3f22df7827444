"""What becomes of a checked publish to an inbox, and what an acknowledgement means (promises 1, 4 and 5)."""

from __future__ import annotations

from dataclasses import dataclass

from amqtt.plugins.base import BasePlugin

from aldis.broker.core.envelope import EnvelopeError, Reason, parse_receipt
from aldis.broker.core.packets import Message
from aldis.broker.pipeline import INBOX_LEVELS, Publication
from aldis.plugins.envelopes import read_envelope
from aldis.plugins.services import services_of


class Delivery(BasePlugin):  # type: ignore[type-arg]
    """Chat goes into the group commit and is acknowledged when that is durable; a read receipt likewise; typing is
    passed on to who is there. Everything else is plain MQTT.

    Sending again, giving a silent device up and the feeds are the connector's own (`Node.check`, `Inboxes`): they
    hold for every message that was once accepted, whatever plugins are configured.
    """

    @dataclass
    class Config:
        """No options; limits and time-outs are in `limits` and `timeouts`."""

    def __init__(self, context: object) -> None:
        super().__init__(context)
        self._services = services_of(context)

    def handle_publish(self, publication: Publication) -> bool:
        """A stage of the pipeline: takes what belongs to an inbox."""
        levels = publication.levels
        if levels[0] != "inbox":
            return True
        kind = levels[2] if len(levels) == INBOX_LEVELS else ""
        if kind == "chat":
            if publication.envelope is not None or read_envelope(publication, self._services.settings.limits):
                self._services.inboxes.submit(publication, levels[1])
        elif kind == "receipt":
            self._receipt(publication)
        elif kind == "typing":
            message = publication.message
            # QoS 0, never stored
            self._services.node.pass_on("typing", levels[1], Message(message.topic, message.payload))
            publication.settle()
        else:
            publication.reject(Reason.BAD_TOPIC)
        return False

    def _receipt(self, publication: Publication) -> None:
        try:
            up_to = parse_receipt(publication.message.payload)
        except EnvelopeError as error:
            publication.reject(Reason(error.reason))
            return
        self._services.inboxes.read(publication.user, publication.levels[1], up_to, publication)
