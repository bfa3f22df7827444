"""Who may write to whom, in memory for the users who are connected here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from aldis.broker.ports import Announcement, Bus, Directory, RelationChanged, StoreUnavailable

logger = logging.getLogger(__name__)


class Reading:
    """One use of what the directory says of a user. `changed`: with whom a change was announced since it began."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        self.changed: set[str] = set()


class Correspondents:
    """`known` has an entry for every user who is connected here, never an outdated one: what a change concerns is taken
    out the moment it is announced, before it is read again. `on_reloaded` hooks are told (user, other) when such a
    change has been read."""

    def __init__(self, directory: Directory, bus: Bus, spawn: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        self.known: dict[str, frozenset[str]] = {}
        self.on_reloaded: list[Callable[[str, str], None]] = []
        self._directory = directory
        self._spawn = spawn
        self._readings: dict[str, list[Reading]] = {}
        bus.subscribe(self._on_announcement)

    async def admit(self, user: str) -> None:
        """Before CONNACK: reads them. Raises `StoreUnavailable`."""
        if user not in self.known:
            self.known[user] = await self._read(user)

    def forget_user(self, user: str) -> None:
        """The user's last connection is gone."""
        self.known.pop(user, None)

    async def of(self, user: str) -> frozenset[str]:
        """Also of a user who is not connected here. Raises `StoreUnavailable`."""
        known = self.known.get(user)
        return await self._read(user) if known is None else known

    @contextmanager
    def reading(self, user: str) -> Iterator[Reading]:
        """For who uses the answer of `of` over several turns of the event loop."""
        readings = self._readings.setdefault(user, [])
        reading = Reading()
        readings.append(reading)
        try:
            yield reading
        finally:
            readings.remove(reading)
            if not readings:
                self._readings.pop(user, None)

    async def _read(self, user: str) -> frozenset[str]:
        """No older than the last change that was announced while it was being read."""
        with self.reading(user) as reading:
            while True:
                correspondents = await self._directory.correspondents(user)
                if not reading.changed:
                    return correspondents
                reading.changed.clear()

    def _on_announcement(self, announcement: Announcement) -> None:
        if not isinstance(announcement, RelationChanged):
            return
        pair = (announcement.user1, announcement.user2)
        for user, other in (pair, pair[::-1]):
            for reading in self._readings.get(user, ()):
                reading.changed.add(other)
            known = self.known.get(user)
            if known is not None:
                self.known[user] = known - {other}
                self._spawn(self._reload(user, other), "reload correspondents")

    async def _reload(self, user: str, other: str) -> None:
        try:
            correspondents = await self._read(user)
        except StoreUnavailable:
            logger.warning(
                "correspondents not reloaded; the change takes effect at the next connection", extra={"user": user}
            )
            return
        if user in self.known:
            self.known[user] = correspondents
            for hook in self.on_reloaded:
                hook(user, other)
