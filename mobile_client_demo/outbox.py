"""What a device has sent, and how far each message has come. Pure: no network, no clock.

The outbox numbers messages (`id` for ever unique per device, `seq` 1, 2, 3 … per recipient) and keeps each one
until the server has both acknowledged and answered it: with the PUBACK the receipt that names its mid may have been
lost, and with the receipt the PUBACK. Publishing the same id again brings the same answer again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aldis.mobile_client_demo.wire import Receipt


@dataclass(eq=False, slots=True)
class Outgoing:
    """One message on its way. `published` counts how often it has left, `acknowledged` means a PUBACK came."""

    id: str
    to: str
    seq: int | None
    text: str
    content: dict[str, Any]
    published: int = 0
    acknowledged: bool = False
    ordered: bool = False
    """It is to have a seq, now or when it leaves."""
    cause: int | None = None
    """The n of the item in whose handling it was sent, where its id follows from that."""
    answers: list[Receipt] = field(default_factory=list)
    """Every `sent` and `failed` receipt for it: one per time that it was published, unless a connection was lost."""

    @property
    def settled(self) -> bool:
        """Nothing more is to come for it."""
        return self.acknowledged and bool(self.answers)

    @property
    def mid(self) -> int:
        """The server's number for it, 0 until the first `sent`."""
        return next((answer.mid for answer in self.answers if answer.type == "sent"), 0)

    @property
    def failed(self) -> str:
        """The reason of its first `failed` receipt, empty where there is none."""
        return next((answer.reason for answer in self.answers if answer.type == "failed"), "")


@dataclass(slots=True)
class Progress:
    """How far one peer has come with what I sent: mids, 0 where nothing was said yet."""

    delivered: int = 0
    read: int = 0


class Outbox:
    """All messages of one device by id, those that still wait for an answer in sending order, and the progress of
    each peer. `prefix` keeps the ids of two runs on one device apart; a run that goes on with the prefix of another
    goes on at its `count`."""

    def __init__(self, prefix: str, *, count: int = 0) -> None:
        self._prefix = prefix
        self._count = count
        self._messages: dict[str, Outgoing] = {}
        self._waiting: dict[str, Outgoing] = {}
        self._seqs: dict[str, int] = {}
        self._progress: dict[str, Progress] = {}

    def new(self, to: str, text: str, fields: dict[str, Any], *, ordered: bool) -> Outgoing:
        """A message with the next id and, if `ordered`, the next seq. `fields` are its type, body and so on."""
        self._count += 1
        content: dict[str, Any] = {"id": f"{self._prefix}-{self._count}"}
        if ordered:
            content["seq"] = self._seqs[to] = self._seqs.get(to, 0) + 1
        content.update(fields)
        message = Outgoing(content["id"], to, content.get("seq"), text, content, ordered=ordered)
        self._messages[message.id] = message
        return message

    def restore(self, message: Outgoing) -> None:
        """Takes in a message that has its id already, such as one that an earlier run has left."""
        self._messages[message.id] = message

    def forget(self, message: Outgoing) -> None:
        """Nobody will ask for it again."""
        self._messages.pop(message.id, None)
        self._waiting.pop(message.id, None)

    def message(self, id: str) -> Outgoing | None:
        return self._messages.get(id)

    def leaving(self, message: Outgoing) -> None:
        """The app publishes it, now or when it is online again."""
        if not message.settled:
            self._waiting.setdefault(message.id, message)

    def waiting(self) -> list[Outgoing]:
        """What has to be published after a reconnect, in the order in which the app sent it."""
        self._waiting = {id: message for id, message in self._waiting.items() if not message.settled}
        return list(self._waiting.values())

    def answer(self, receipt: Receipt) -> None:
        """Takes any receipt in. One for a message that another device sent changes nothing here but the progress."""
        if receipt.type in ("sent", "failed"):
            message = self._messages.get(receipt.id) if isinstance(receipt.id, str) else None
            if message is not None:
                message.answers.append(receipt)
            return
        progress = self.progress(receipt.peer)
        if receipt.type == "delivered":
            progress.delivered = max(progress.delivered, receipt.up_to)
        else:
            progress.read = max(progress.read, receipt.up_to)

    def progress(self, peer: str) -> Progress:
        return self._progress.setdefault(peer, Progress())
