"""What devices are told of who is there now: when they subscribe, when two have become friends, and once more when
something may have been missed.

Presence is a hint. What is told live while a state is being read is newer than what was read, and is not overtaken by
it; what is wrong for a moment all the same is put right by the next change, the next subscribe, or `again`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from heapq import nlargest
from typing import NamedTuple

from aldis.broker.cluster_ports import StatusUnavailable
from aldis.broker.connection import Connection
from aldis.broker.core.packets import Message
from aldis.broker.core.presence import reached
from aldis.broker.correspondents import Correspondents
from aldis.broker.holdings import Holdings
from aldis.broker.node import Node
from aldis.broker.ports import Store, StoreUnavailable
from aldis.broker.presence_news import PORTION, PresenceNews, portions, presence_of
from aldis.broker.subscribing import taken

logger = logging.getLogger(__name__)

AT_ONCE = 4
"""Devices whose states are read at the same time; a thousand that subscribe at once leave the store to messages."""

PAUSE = 30.0
"""Seconds, at least, between two times that everything is told again."""


class State(NamedTuple):
    friend: str
    online: bool
    last_seen: int


def _told(state: State, to: str) -> Message:
    return presence_of(state.friend, to, online=state.online, last_seen=state.last_seen)


class _Doubt(NamedTuple):
    """`user` was told that `friends` are away. `newer`: of whom it was told something since."""

    due: float
    user: str
    friends: frozenset[str]
    newer: set[str]


class PresenceStates:
    """The states of one node."""

    def __init__(
        self,
        node: Node,
        holdings: Holdings,
        store: Store,
        correspondents: Correspondents,
        now_ms: Callable[[], int],
        news: PresenceNews,
    ) -> None:
        self._node = node
        self._status = holdings.status
        self._store = store
        self._correspondents = correspondents
        self._now_ms = now_ms
        self._news = news
        self._asked: dict[Connection, dict[str, None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._readings: dict[str, list[set[str]]] = {}
        self._befriended: dict[str, set[str]] = {}
        self._doubted: deque[_Doubt] = deque()
        self._again_at: float | None = None
        self._not_before = 0.0
        self._working = False
        node.hearing["presence"] = self._heard
        node.on_tick.append(self._tick)
        holdings.on_doubt.append(self.again)
        correspondents.on_reloaded.append(self._relation_changed)

    # A device subscribes

    def begin(self, connection: Connection, filters: Iterable[str]) -> None:
        """After the SUBACK and the receipts: tells what these filters ask for. One reading per connection at a time."""
        session = connection.session
        if session is None or connection.closed is not None:
            return
        wanted = [filter for filter in filters if reached(session.user, (filter,)) != frozenset()]
        if not wanted:
            return
        asked = self._asked.get(connection)
        if asked is None:
            self._asked[connection] = dict.fromkeys(wanted)
            self._node.spawn(self._serve(connection), "presence of friends")
            return
        asked.update(dict.fromkeys(wanted))
        if len(asked) > self._node.limits.max_subscriptions:
            self._asked[connection] = {filter: None for filter in asked if filter in session.subscriptions}

    async def _serve(self, connection: Connection) -> None:
        try:
            while filters := self._asked[connection]:
                self._asked[connection] = {}
                await self._send(connection, list(filters))
        except StatusUnavailable:
            self.again()  # then all of this node, this device too
        finally:
            del self._asked[connection]

    async def _send(self, connection: Connection, filters: list[str]) -> None:
        session = connection.session
        assert session is not None
        user = session.user
        friends = self._correspondents.known.get(user, frozenset())
        names = reached(user, filters)
        with self._listening(user) as newer:
            async with self._turns:  # not while sending: a client may take its time
                states = await self._read(friends if names is None else friends & names)
            for portion in portions(states):
                if connection.closed is not None:
                    return
                names = reached(user, [filter for filter in filters if filter in session.subscriptions])
                for state in portion:
                    if self._wanted(user, state.friend, newer) and (names is None or state.friend in names):
                        session.deliver(_told(state, user), 0)
                        self._node.figures.routed["presence"] += 1
                self._node.touch(connection)
                if not await taken(self._node.sessions.of(session)):
                    return
        self._doubt(user, states)

    # What is so now

    async def _read(self, friends: Collection[str]) -> list[State]:
        """Who is connected, then who was seen last; at most `max_states`. Users who were never seen are left out.
        Raises `StatusUnavailable`."""
        limit, now = self._news.rules.max_states, self._now_ms()
        states: list[State] = []
        away: list[str] = []
        for portion in portions(friends):
            present = await self._status.present(portion)
            for friend in portion:
                if friend in present or self._news.comings.lingers(friend):
                    states.append(State(friend, True, now))
                else:
                    away.append(friend)
            await asyncio.sleep(0)
        seen: dict[str, int] = {}
        try:
            for portion in portions(away) if len(states) < limit else ():
                seen |= await self._store.last_seen(portion)
        except StoreUnavailable:
            logger.info("when friends were last seen could not be read")
        latest = nlargest(max(limit - len(states), 0), seen, key=seen.__getitem__)
        return states[:limit] + [State(friend, False, seen[friend]) for friend in latest]

    def _wanted(self, user: str, friend: str, newer: set[str]) -> bool:
        return friend not in newer and friend in self._correspondents.known.get(user, ())

    async def _tell(self, user: str, friends: Collection[str]) -> None:
        """How it stands with these friends, to all devices that the user has here."""
        with self._listening(user) as newer:
            states = await self._read(friends)
            await self._pass_on(user, states, newer)
        self._doubt(user, states)

    async def _look_again(self, user: str, friends: Collection[str]) -> None:
        with self._listening(user) as newer:
            for portion in portions(friends if user in self._correspondents.known else ()):
                now = self._now_ms()
                states = [State(friend, True, now) for friend in await self._status.present(portion)]
                await self._pass_on(user, states, newer)

    async def _pass_on(self, user: str, states: list[State], newer: set[str]) -> None:
        for portion in portions(states):
            for state in portion:
                if self._wanted(user, state.friend, newer):
                    self._node.pass_on_here("presence", _told(state, user))
            await asyncio.sleep(len(portion) / self._news.rules.max_per_second)

    @contextmanager
    def _listening(self, user: str) -> Iterator[set[str]]:
        """The friends of whom the user is told something while this lasts."""
        newer = self._listen(user)
        try:
            yield newer
        finally:
            self._ignore(user, newer)

    def _listen(self, user: str) -> set[str]:
        newer: set[str] = set()
        self._readings.setdefault(user, []).append(newer)
        return newer

    def _ignore(self, user: str, newer: set[str]) -> None:
        readings = self._readings[user]
        readings[:] = [one for one in readings if one is not newer]
        if not readings:
            del self._readings[user]

    def _heard(self, message: Message) -> None:
        """Something is being told live, by this or another node."""
        _, user, _, friend = message.topic.split("/")
        for newer in self._readings.get(user, ()):
            newer.add(friend)

    # What has to be told later

    def _doubt(self, user: str, states: Iterable[State]) -> None:
        """Of whom we have just said that they are away, some may only linger with another node. If they come back to it
        within their grace, nobody is told; so we look once more when it is over."""
        away = frozenset([state.friend for state in states if not state.online])
        if away:
            self._doubted.append(_Doubt(self._node.now + self._news.rules.grace + 1.0, user, away, self._listen(user)))

    def _relation_changed(self, user: str, other: str) -> None:
        if other in self._correspondents.known.get(user, ()):
            self._befriended.setdefault(user, set()).add(other)
            self._work()

    def again(self) -> None:
        """Something may have been missed, or nobody could say who is there: when things have settled, every device here
        that has subscribed is told once more."""
        if self._again_at is None:
            self._again_at = max(self._node.now + self._news.rules.settle, self._not_before)

    def _due(self, now: float) -> bool:
        return bool(self._doubted) and self._doubted[0].due <= now

    def _tick(self, now: float) -> None:
        if self._befriended or self._due(now) or (self._again_at is not None and self._again_at <= now):
            self._work()

    def _work(self) -> None:
        if not self._working:
            self._working = True
            self._node.spawn(self._run(), "presence told again")

    async def _run(self) -> None:
        try:
            await self._introduce()
            while self._due(self._node.now):
                doubt = self._doubted.popleft()
                self._ignore(doubt.user, doubt.newer)
                await self._look_again(doubt.user, doubt.friends - doubt.newer)
            if self._again_at is not None and self._again_at <= self._node.now:
                self._not_before, self._again_at = self._node.now + PAUSE, None
                await self._tell_everybody()
        except StatusUnavailable:
            self.again()
        finally:
            self._working = False

    async def _introduce(self) -> None:
        """New friends to each other."""
        while self._befriended:
            user, others = self._befriended.popitem()
            await self._tell(user, others)

    async def _tell_everybody(self) -> None:
        users: dict[str, None] = {}
        for number, ((user, _), subscriber) in enumerate(list(self._node.sessions.subscribers.items()), 1):
            if subscriber.connection is not None and reached(user, subscriber.session.subscriptions) != frozenset():
                users[user] = None
            if number % PORTION == 0:
                await asyncio.sleep(0)
        logger.info("presence is told again", extra={"users": len(users)})
        for user in users:
            await self._introduce()  # they do not wait for everybody
            await self._tell(user, self._correspondents.known.get(user, frozenset()))
