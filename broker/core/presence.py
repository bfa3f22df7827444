"""What of users' coming and going is told to their friends, and when. Pure.

    came                          -> news: online
    left -> lingers for `grace`   -> the caller asks whether the user is elsewhere; if not -> news: offline
                  came            -> nothing is said: a phone has changed networks

News wait until they are taken, at most one of each user, the newest. Times are in seconds unless they end in `_ms`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from aldis.broker.core.topics import overlaps

REMEMBERED = 60.0
"""Seconds, beyond the grace, for which it is remembered when users were last heard, and of whom `offline` was told."""


class Comings:
    """The news of one node: whose first device came here, whose last one left here."""

    __slots__ = ("_heard", "_lingering", "_news", "_said", "grace")

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self._lingering: dict[str, float] = {}  # since when, the longest first
        self._news: dict[str, bool] = {}
        self._said: dict[str, float] = {}  # `offline`, lately, to some or all
        self._heard: dict[str, tuple[float, int]] = {}

    # What happens

    def came(self, user: str) -> None:
        """The first device of the user is here."""
        self._heard.pop(user, None)
        silent = self._lingering.pop(user, None) is not None
        if self._news.get(user) is False:
            del self._news[user]
            silent = True
        said = self._said.pop(user, None) is not None
        if said or not silent:
            self._tell(user, online=True)

    def left(self, user: str, now: float) -> None:
        """The last device of the user has left. Once more of one who lingers changes nothing."""
        self._lingering.setdefault(user, now)

    def heard(self, user: str, now: float, last_seen_ms: int) -> None:
        """A connection of the user has ended `now`, and was last heard then."""
        self._heard.pop(user, None)
        self._heard[user] = (now, last_seen_ms)

    def last_heard_ms(self, user: str) -> int:
        """0: not known."""
        return self._heard.get(user, (0.0, 0))[1]

    def lingers(self, user: str) -> bool:
        """The user is away, but nobody was told so yet."""
        return user in self._lingering or (self._news.get(user) is False and user not in self._said)

    # Whose grace is over

    def due(self, now: float) -> list[tuple[str, float]]:
        """Users who linger for long enough, and since when: for `settle`."""
        self._forget(now)
        found = []
        for user, since in self._lingering.items():
            if since + self.grace > now:
                break
            found.append((user, since))
        return found

    def settle(self, user: str, since: float, *, elsewhere: bool) -> None:
        """The user who lingered since then is connected `elsewhere`, or away. Void if the user has come meanwhile."""
        if self._lingering.get(user) != since:
            return
        del self._lingering[user]
        if not elsewhere:
            self._tell(user, online=False)

    def _forget(self, now: float) -> None:
        limit = now - self.grace - REMEMBERED
        while self._heard and next(iter(self._heard.values()))[0] <= limit:
            del self._heard[next(iter(self._heard))]
        while self._said and next(iter(self._said.values())) <= limit:
            del self._said[next(iter(self._said))]

    # What is told

    def _tell(self, user: str, *, online: bool) -> None:
        self._news.pop(user, None)
        self._news[user] = online

    def take(self, now: float) -> tuple[str, bool] | None:
        """The oldest news, to be told now: the user, and whether it is online."""
        if not self._news:
            return None
        user = next(iter(self._news))
        online = self._news.pop(user)
        if not online:
            self._said.pop(user, None)
            self._said[user] = now
        return user, online

    def again(self, user: str, *, online: bool) -> None:
        """This has to be told, or told once more, unless there is newer."""
        self._news.setdefault(user, online)

    def look_again(self, user: str, now: float, *, online: bool, there: bool) -> None:
        """The user of whom this was told is, or is not, `there` afterwards. One who is not has a grace to come back."""
        if there and not online:
            self.again(user, online=True)
        elif online and not there:
            self.left(user, now)

    def __len__(self) -> int:
        """News that wait."""
        return len(self._news)

    def anything(self, now: float) -> bool:
        """Whether there is something to tell, or to settle."""
        return bool(self._news) or any(since + self.grace <= now for since in islice(self._lingering.values(), 1))


def reached(user: str, filters: Iterable[str]) -> frozenset[str] | None:
    """Of whom these filters of `user` ask to be told: their names, or None for everybody."""
    names = set()
    for filter in filters:
        if overlaps(filter, f"inbox/{user}/presence/+"):
            levels = filter.split("/")
            if len(levels) < 4 or levels[3] in ("+", "#"):
                return None
            names.add(levels[3])
    return frozenset(names)
