"""Who is there: `inbox/{me}/presence/{friend}` `{"online":bool,"last_seen":ms}`."""

from __future__ import annotations

from dataclasses import dataclass

from amqtt.plugins.base import BasePlugin

from aldis.broker.presence_news import PresenceNews
from aldis.broker.presence_states import PresenceStates
from aldis.plugins.services import services_of


class Presence(BasePlugin):  # type: ignore[type-arg]
    """Tells a user's friends (accepted, blocked by neither side) when its first device comes and when its last one has
    left, and each device that subscribes how it stands with everyone. Nobody else learns of it; without this plugin,
    nobody at all.

    It is a hint: never stored, at QoS 0, and after a trouble between nodes it may be wrong until it is told again. It
    costs nothing per message."""

    @dataclass
    class Config:
        """Options in the profile."""

        grace: float = 3.0
        """Seconds that a user without a device still counts as online, so that a phone that changes networks, or nodes,
        does not flicker."""
        max_states: int = 1_000
        """States told to a device that subscribes: friends who are online first, then those seen last."""
        max_per_second: int = 5_000
        """Changes that this node tells in a second; what is more waits, and of each user only the newest counts."""
        settle: float = 10.0
        """Seconds after a trouble between the nodes until the states are told again. In that time every node must have
        said again whom it holds: the lease of the nodes (`cluster.lease`)."""

    def __init__(self, context: object) -> None:
        super().__init__(context)
        self.check_options(self.config)
        services = services_of(context)
        self._correspondents = services.correspondents
        shared = (services.node, services.holdings, services.inboxes.store, services.correspondents, services.now_ms)
        self._news = PresenceNews(*shared, self.config)
        self._states = PresenceStates(*shared, self._news)
        services.inboxes.on_started.append(self._states.begin)

    @staticmethod
    def check_options(config: Config) -> None:
        """Raises `ValueError`."""
        for name in ("grace", "settle"):
            if not 0 <= getattr(config, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more seconds, not {getattr(config, name)}")
        for name in ("max_states", "max_per_second"):
            if getattr(config, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(config, name)}")

    def configure(self, config: Config) -> None:
        """Other options from now on (SIGHUP)."""
        self.config = self._news.rules = config

    async def admit(self, user: str) -> None:
        """Before CONNACK: reads who the friends are. Raises `StoreUnavailable`."""
        await self._correspondents.admit(user)

    def forget_user(self, user: str) -> None:
        """The user's last connection is gone."""
        self._correspondents.forget_user(user)

    def last_heard(self, user: str, heard: float) -> None:
        """A connection of the user has ended; it was last heard then (loop time)."""
        self._news.last_heard(user, heard)

    def gauges(self) -> dict[str, int]:
        """For the metrics: users whose coming or going is still to be told."""
        return {"presence_waiting": len(self._news.comings)}
