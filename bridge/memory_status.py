"""The in-process user status: the twin of the one on Redis, and all that a single node needs.

Several nodes in one process share a `StatusBoard`; tests make it lose things, or nodes die, as a real one would. What
takes a real one seconds happens at once here: a node that dies is noticed in that moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aldis.broker.cluster_ports import Arrival, Holding, StatusEvents, StatusUnavailable


@dataclass(slots=True)
class _Entry:
    holding: Holding
    by: MemoryUserStatus
    present: bool


class StatusBoard:
    """What the nodes of one process know of each other. `now` is Unix time in seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._turn = 0
        self.reachable = True
        self.leases: dict[str, MemoryUserStatus] = {}
        self.nodes: list[MemoryUserStatus] = []
        """All that are open, in the order of their opening; also those without a lease."""
        self.users: dict[str, dict[str, _Entry]] = {}
        self._untold: list[str] = []

    def next_turn(self) -> int:
        # microseconds: a new process goes on above what the last one has given out
        self._turn = max(self._turn + 1, int(self._now() * 1_000_000))
        return self._turn

    def raise_turn(self, turn: int) -> None:
        self._turn = max(self._turn, turn)

    # For tests: what can go wrong

    def cut(self) -> None:
        """Nobody reaches the board any more: every call raises `StatusUnavailable`."""
        self.reachable = False

    def mend(self) -> None:
        """Everybody reaches it again, takes the lease that it lacks, and is told `lease_lost` in any case."""
        self.reachable = True
        for node, status in list(self.leases.items()):
            if status not in self.nodes:
                self.lapse(node)
        for status in list(self.nodes):
            status.renew(was_away=True)

    def flush(self) -> None:
        """Everything is lost. Those who are alive notice."""
        self.users.clear()
        self.leases.clear()
        self._untold.clear()
        if self.reachable:
            for status in list(self.nodes):
                status.renew()

    def lapse(self, node: str) -> None:
        """The lease of this node runs out, as if its process were dead or stood still: what it held is removed, and a
        living node is told. One that only stood still goes on with `MemoryUserStatus.renew`, or with its next call."""
        self.remove(self.leases.pop(node))

    def die(self, node: str) -> None:
        """The process that has the name is dead, and never comes back."""
        self.nodes.remove(self.leases[node])
        self.lapse(node)

    def remove(self, dead: MemoryUserStatus) -> None:
        """What a process without a lease has held."""
        left: list[str] = []
        for user, devices in list(self.users.items()):
            lost = [device for device, entry in devices.items() if entry.by is dead]
            was_there = any(devices[device].present for device in lost)
            for device in lost:
                del devices[device]
            if was_there and not self.is_present(user):
                left.append(user)
            if not devices:
                del self.users[user]
        self._untold += left
        self.tell_left()

    def tell_left(self) -> None:
        """Tells one living node who has gone; without one, the next that comes."""
        gone = [user for user in self._untold if not self.is_present(user)]
        living = next(iter(self.leases.values()), None)
        if gone and living is not None:
            living.tell(lambda events: events.left_behind(gone))
        if living is not None:
            self._untold.clear()

    def is_present(self, user: str) -> bool:
        return any(entry.present for entry in self.users.get(user, {}).values())


class MemoryUserStatus:
    """Keeps `aldis.broker.cluster_ports.UserStatus` inside one event loop. Without a `board` the node is alone."""

    def __init__(self, node: str, board: StatusBoard | None = None) -> None:
        self.node = node
        self._board = StatusBoard() if board is None else board
        self._events: StatusEvents | None = None
        self._superseded = False
        self._had_nothing = True
        self.incarnation = 0

    async def open(self, events: StatusEvents) -> None:
        self._events = events
        board = self._board
        board.nodes.append(self)
        if board.reachable:
            self._take_name()
        self._had_nothing = False

    async def close(self) -> None:
        board = self._board
        if self not in board.nodes:
            return
        self._events = None
        board.nodes.remove(self)
        if board.reachable and board.leases.get(self.node) is self:
            board.lapse(self.node)

    async def online(self, devices: Sequence[tuple[str, str]]) -> list[Arrival]:
        self._admit()
        board = self._board
        return [self._hold(Holding(user, device, self.node, board.next_turn()), True) for user, device in devices]

    async def restore(self, holdings: Sequence[Holding], present: Sequence[bool]) -> list[Holding | None]:
        self._admit()
        later: list[Holding | None] = []
        for holding, there in zip(holdings, present, strict=True):
            entry = self._board.users.get(holding.user, {}).get(holding.device)
            if entry is not None and entry.holding.turn > holding.turn and entry.by is not self:
                later.append(entry.holding)
            else:
                self._board.raise_turn(holding.turn)
                self._hold(Holding(holding.user, holding.device, self.node, holding.turn), there)
                later.append(None)
        return later

    async def away(self, holdings: Sequence[Holding]) -> list[bool]:
        self._admit()
        last = []
        for holding in holdings:
            entry = self._current(holding)
            if entry is not None:
                entry.present = False
            last.append(not self._board.is_present(holding.user))
        return last

    async def offline(self, holdings: Sequence[Holding]) -> list[bool]:
        self._admit()
        last = []
        for holding in holdings:
            entry = self._current(holding)
            if entry is not None:
                devices = self._board.users[holding.user]
                del devices[holding.device]
                if not devices:
                    del self._board.users[holding.user]
            last.append(entry is not None and entry.present and not self._board.is_present(holding.user))
        return last

    async def connectors(self, users: Sequence[str]) -> dict[str, frozenset[str]]:
        self._reach()
        board = self._board.users
        return {user: frozenset(entry.by.node for entry in board.get(user, {}).values()) for user in users}

    async def present(self, users: Sequence[str]) -> frozenset[str]:
        self._reach()
        return frozenset(user for user in users if self._board.is_present(user))

    def renew(self, *, was_away: bool = False) -> None:
        """Takes the lease again if it is lost: what a real one does by itself, some times in each lease."""
        if self._events is None or self._superseded or not self._board.reachable:
            return
        holder = self._board.leases.get(self.node)
        if holder is None or holder.incarnation < self.incarnation:
            self._take_name()
        elif holder is not self:
            self._superseded = True
            self.tell(lambda events: events.superseded())
        elif was_away:
            self.tell(lambda events: events.lease_lost())

    def _take_name(self) -> None:
        board = self._board
        self.incarnation = self.incarnation or board.next_turn()
        older = board.leases.get(self.node)
        board.leases[self.node] = self
        if older is not None:
            asyncio.get_running_loop().call_soon(older.renew)
            board.remove(older)
        board.tell_left()
        if not self._had_nothing:
            self.tell(lambda events: events.lease_lost())

    def tell(self, tell: Callable[[StatusEvents], None]) -> None:
        """In a later turn of the loop, unless the node has closed by then."""

        def told() -> None:
            if self._events is not None:
                tell(self._events)

        asyncio.get_running_loop().call_soon(told)

    def _reach(self) -> None:
        if not self._board.reachable or self._events is None:
            raise StatusUnavailable("the board cannot be reached")

    def _admit(self) -> None:
        self._reach()
        self.renew()
        if self._superseded:
            raise StatusUnavailable(f"a younger process has taken the name {self.node}")

    def _hold(self, holding: Holding, present: bool) -> Arrival:
        first = not self._board.is_present(holding.user)
        devices = self._board.users.setdefault(holding.user, {})
        before = devices.get(holding.device)
        previous = None if before is None else before.holding
        devices[holding.device] = _Entry(holding, self, present)
        return Arrival(holding, previous, first)

    def _current(self, holding: Holding) -> _Entry | None:
        """The entry of this holding, if it still is the current one; or an outdated one of our own, which goes with
        it."""
        entry = self._board.users.get(holding.user, {}).get(holding.device)
        if entry is None:
            return None
        outdated = entry.by is self and holding.node == self.node and entry.holding.turn < holding.turn
        return entry if outdated or entry.holding.turn == holding.turn else None
