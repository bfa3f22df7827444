"""Telling friends who comes and who goes: the changes. What a device is told when it subscribes: `presence_states`.

    Holdings: first device came, last one left      only on the node where that happened
       -> Comings (grace) -> whoever of the friends is connected, on whichever node, through `Node.pass_on`

Nothing of it is stored and nothing waits for it. While the user status is away, the news wait; of each user only the
newest counts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Protocol, TypeVar

from aldis.broker.cluster_ports import StatusUnavailable
from aldis.broker.core.envelope import render_presence
from aldis.broker.core.packets import Message
from aldis.broker.core.presence import Comings
from aldis.broker.correspondents import Correspondents
from aldis.broker.holdings import Holdings
from aldis.broker.node import Node
from aldis.broker.ports import Store, StoreUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

PORTION = 200
"""Users of one question to the user status or the store, and states told before others have their turn: about a
millisecond."""


class Rules(Protocol):
    """See the options of the plugin."""

    grace: float
    max_states: int
    max_per_second: int
    settle: float


def presence_of(user: str, to: str, *, online: bool, last_seen: int) -> Message:
    return Message(f"inbox/{to}/presence/{user}", render_presence(online=online, last_seen=last_seen))


def portions(users: Collection[T]) -> Iterator[list[T]]:
    rest = iter(users)
    while portion := list(islice(rest, PORTION)):
        yield portion


class PresenceNews:
    """The news of one node. `rules` may be replaced at any time."""

    def __init__(
        self,
        node: Node,
        holdings: Holdings,
        store: Store,
        correspondents: Correspondents,
        now_ms: Callable[[], int],
        rules: Rules,
    ) -> None:
        self.comings = Comings(rules.grace)
        self.rules = rules
        self._node = node
        self._status = holdings.status
        self._store = store
        self._correspondents = correspondents
        self._now_ms = now_ms
        self._told: dict[str, bool] = {}
        """Of these it is looked again whether what we told is true."""
        self._behind_since: float | None = None
        """Since when (loop time) there has always been something to tell."""
        self._working = False
        holdings.on_presence.append(self._changed)
        node.on_tick.append(self._tick)

    # What happens

    def _changed(self, user: str, there: bool) -> None:
        if there:
            self.comings.came(user)
            self._work()
        else:
            self.comings.left(user, self._node.now)

    def last_heard(self, user: str, heard: float) -> None:
        """A connection of the user has ended, `heard` (loop time) being the last that came from it."""
        now = self._node.now
        self.comings.heard(user, now, self._now_ms() - int(max(now - heard, 0.0) * 1_000))

    def _tick(self, now: float) -> None:
        self.comings.grace = self.rules.grace
        if self._told or self.comings.anything(now):
            self._work()

    # One worker: of one user things are told in the order in which they happened

    def _work(self) -> None:
        if self._behind_since is None:
            self._behind_since = asyncio.get_running_loop().time()
        if not self._working:
            self._working = True
            self._node.spawn(self._run(), "presence")

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever comes in this tick
            await self._look_again()
            await self._settle()
            await self._tell_all()
        except StatusUnavailable:
            pass  # nothing is lost: the next tick tries again
        finally:
            self._working = False
            if not self.comings:
                self._behind_since = None

    async def _look_again(self) -> None:
        """What another node tells of the same user may have overtaken what we told, or be overtaken by it: `offline`
        of one who came there in that very moment, `online`, told late, of one who has left there since."""
        told, self._told = self._told, {}
        try:
            for portion in portions(told):
                present = await self._status.present(portion)
                for user in portion:
                    self.comings.look_again(user, self._node.now, online=told[user], there=user in present)
        except StatusUnavailable:
            self._told = told | self._told
            raise

    async def _settle(self) -> None:
        """Whose grace is over: away, or only with another node?"""
        for portion in portions(self.comings.due(self._node.now)):
            elsewhere = await self._status.present([user for user, _ in portion])
            for user, since in portion:
                self.comings.settle(user, since, elsewhere=user in elsewhere)

    async def _tell_all(self) -> None:
        unread: list[tuple[str, bool]] = []
        try:
            while (news := self.comings.take(self._node.now)) is not None:
                try:
                    await self._tell(*news)
                except StoreUnavailable:
                    unread.append(news)
                except StatusUnavailable:
                    unread.append(news)
                    raise
        finally:
            for user, online in unread:
                self.comings.again(user, online=online)

    async def _tell(self, user: str, online: bool) -> None:
        with self._correspondents.reading(user) as reading:
            friends = await self._correspondents.of(user)
            last_seen = self._now_ms() if online else await self._last_seen(user)
            if not online:
                self._told[user] = online
            for portion in portions(friends):
                # whoever connects from now on reads the state at the subscribe
                present = await self._status.present(portion)
                if online and self._is_late():
                    self._told[user] = online
                for friend in present - reading.changed:
                    self._node.pass_on(
                        "presence", friend, presence_of(user, friend, online=online, last_seen=last_seen)
                    )
                # also gives others their turn
                await asyncio.sleep(len(present) / self.rules.max_per_second)

    def _is_late(self) -> bool:
        """Whoever came may have left since with another node, whose grace is over: it may have told so before us."""
        assert self._behind_since is not None  # this is something to tell
        return asyncio.get_running_loop().time() - self._behind_since >= self.rules.grace

    async def _last_seen(self, user: str) -> int:
        """When the user was last heard. Nobody has noted it where a node has died: it was heard until just now."""
        noted = self.comings.last_heard_ms(user)
        if not noted:
            return self._now_ms()
        try:
            known = await self._store.last_seen([user])
        except StoreUnavailable:
            known = {}
        return max(noted, known.get(user, 0))
