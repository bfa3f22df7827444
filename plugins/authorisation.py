"""Who may do what: the topic rules of the wire contract."""

from __future__ import annotations

from dataclasses import dataclass, field

from amqtt.plugins.base import BasePlugin

from aldis.broker.core.envelope import Reason
from aldis.broker.core.topics import covers
from aldis.broker.pipeline import INBOX_LEVELS, Publication
from aldis.broker.ports import StoreUnavailable
from aldis.plugins.envelopes import read_envelope
from aldis.plugins.first_results import SenderGone, first_result
from aldis.plugins.services import services_of

_FOR_FRIENDS = frozenset({"chat", "typing", "receipt"})


class TopicAuthorisation(BasePlugin):  # type: ignore[type-arg]
    """Nobody publishes as someone else, reads another's inbox, or writes to who has not accepted (promise 7).

    Publish: `inbox/{to}/chat|typing|receipt/{me}` to correspondents and, for notes, to oneself; `devices/{me}/…`.
    Subscribe: what `inbox/{me}/#` or `devices/{me}/#` covers; `$SYS/#` for admins. The correspondents of a user are in
    memory while the user is connected, and dropped the moment a change of a relation is announced, before they are read
    again: what is uncertain is refused."""

    @dataclass
    class Config:
        """Options in the profile."""

        admins: list[str] = field(default_factory=list)
        """User ids that may subscribe to `$SYS/#`."""

    def __init__(self, context: object) -> None:
        super().__init__(context)
        self._services = services_of(context)
        self._shared = self._services.correspondents
        self._correspondents = self._shared.known

    def configure(self, config: Config) -> None:
        """Other options from now on (SIGHUP)."""
        self.config = config

    # Who is connected

    async def admit(self, user: str) -> None:
        """Before CONNACK: reads whom the user may write to. Raises `StoreUnavailable`."""
        await self._shared.admit(user)

    def forget_user(self, user: str) -> None:
        """The user's last connection is gone."""
        self._shared.forget_user(user)

    # Publish

    def handle_publish(self, publication: Publication) -> bool:
        """A stage of the pipeline: lets what is allowed go on, rejects the rest with its reason."""
        reason = self._judge(publication)
        if reason is None:
            return True
        if reason is Reason.NOT_FRIEND and publication.levels[2] == "chat":
            self._refuse_unless_known(publication)
        else:
            publication.reject(reason)
        return False

    def _refuse_unless_known(self, publication: Publication) -> None:
        """What was sent while it was allowed has a result, and its repeat gets the same one, whatever has come between
        the two people since."""
        if not read_envelope(publication, self._services.settings.limits):
            return
        envelope = publication.envelope
        if envelope is None or envelope.id is None:
            publication.reject(Reason.NOT_FRIEND)
            return
        publication.waits()
        self._services.node.spawn(self._look_up(publication, envelope.id), "find what may be a repeat")

    async def _look_up(self, publication: Publication, id: str) -> None:
        try:
            await self._services.inboxes.writer.flush()  # the first may still be on its way
            first = await first_result(self._services, publication, id)
        except (SenderGone, StoreUnavailable):
            publication.abandon()
            return
        if first is None:
            publication.reject(Reason.NOT_FRIEND)
        else:
            publication.committed(first.mid, first.created)

    def _judge(self, publication: Publication) -> Reason | None:
        levels, user = publication.levels, publication.user
        if levels[0] == "inbox":
            if len(levels) != INBOX_LEVELS or levels[2] not in _FOR_FRIENDS:
                return Reason.BAD_TOPIC
            if levels[3] != user:
                return Reason.NOT_SENDER
            if publication.message.retain:
                return Reason.RETAIN_REFUSED
            to = levels[1]
            if to != user and to not in self._correspondents.get(user, ()):
                return Reason.NOT_FRIEND
            return None
        return None if self._own_device_topic(user, levels) else Reason.FORBIDDEN

    def will_allowed(self, user: str, topic: str) -> bool:
        """A will may go where its owner may publish, but not into an inbox."""
        return self._own_device_topic(user, topic.split("/"))

    @staticmethod
    def _own_device_topic(user: str, levels: list[str]) -> bool:
        return len(levels) > 2 and levels[0] == "devices" and levels[1] == user

    # Subscribe

    def allows_subscription(self, user: str, filter: str) -> bool:
        """A filter is granted only if everything that it can match is allowed."""
        if covers(f"inbox/{user}/#", filter) or covers(f"devices/{user}/#", filter):
            return True
        return user in self.config.admins and covers("$SYS/#", filter)
