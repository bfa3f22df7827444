"""Whatever is asked of a user status in whatever order, it answers like a few lines of plain Python."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aldis.broker.cluster_ports import Holding, StatusUnavailable, UserStatus
from tests.contract.statuses import STATUSES, Statuses

NAMES = ("one", "two", "three")
USERS = ("ann", "bob", "Ann")
DEVICES = ("phone", "tab\nlet 1/é")

names = st.sampled_from(NAMES)
keys = st.tuples(st.sampled_from(USERS), st.sampled_from(DEVICES))
# Which of all holdings that there ever were, counted from the newest.
picks = st.lists(st.integers(0, 9), min_size=1, max_size=4)
operations = st.one_of(
    st.tuples(st.just("online"), names, st.lists(keys, min_size=1, max_size=4)),
    st.tuples(st.just("online"), names, st.lists(keys, min_size=1, max_size=4)),
    st.tuples(st.just("away"), names, picks),
    st.tuples(st.just("offline"), names, picks),
    st.tuples(st.just("restore"), names, picks, st.lists(st.booleans(), min_size=4, max_size=4)),
    st.tuples(st.just("lapse"), names),
    st.tuples(st.just("die"), names),
    st.tuples(st.just("close"), names),
    st.tuples(st.just("start"), names),
    st.tuples(st.just("flush")),
    st.tuples(st.just("settle")),
)


@dataclass
class Process:
    """One that is open, as the model sees it. `held` are (user, device) -> (turn, connected)."""

    status: UserStatus
    leased: bool = True
    held: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    expected_losses: int = 0


class Model:
    """What is known of everybody: who is open, who has a lease, and what those hold. Nothing that a process without a
    lease has held is ever asked for again: it is gone with the lease."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}

    def everywhere(self) -> list[tuple[str, tuple[str, str], int, bool]]:
        return [
            (name, key, turn, there)
            for name, process in self.processes.items()
            for key, (turn, there) in process.held.items()
        ]

    def holder(self, key: tuple[str, str]) -> Holding | None:
        found = [Holding(*key, name, turn) for name, held, turn, _ in self.everywhere() if held == key]
        assert len(found) <= 1
        return found[0] if found else None

    def present(self, user: str) -> bool:
        return any(there for _, key, _, there in self.everywhere() if key[0] == user)

    def connectors(self, user: str) -> set[str]:
        return {name for name, key, _, _ in self.everywhere() if key[0] == user}

    def drop(self, key: tuple[str, str]) -> None:
        for process in self.processes.values():
            process.held.pop(key, None)

    def lose(self, name: str) -> set[str]:
        """The lease, and with it everything held; those who have no connection left by that."""
        process = self.processes[name]
        gone = {user for (user, _), (_, there) in process.held.items() if there}
        process.leased = False
        process.held.clear()
        return {user for user in gone if not self.present(user)}

    def wake(self, name: str) -> None:
        process = self.processes[name]
        process.expected_losses += not process.leased
        process.leased = True


class Driver:
    def __init__(self, nodes: Statuses) -> None:
        self.nodes = nodes
        self.model = Model()
        self.ever: list[Holding] = []
        self.highest = 0
        self.to_be_told: set[str] = set()

    async def apply(self, operation: tuple[Any, ...]) -> None:
        how, *arguments = operation
        if how in ("flush", "settle", "start"):
            await getattr(self, f"_{how}")(*arguments)
            return
        name, *rest = arguments
        if name in self.model.processes:
            await getattr(self, f"_{how}")(name, self.model.processes[name], *rest)

    def _picked(self, picks: Sequence[int]) -> list[Holding]:
        return [self.ever[-1 - pick] for pick in picks if pick < len(self.ever)]

    async def _start(self, name: str) -> None:
        before = self.model.processes.get(name)
        if before is not None:
            await self._expect_told(self.model.lose(name))
        status = await self.nodes.node(name)  # everybody settles
        self.model.processes[name] = Process(status)
        self._woken()
        if before is not None:
            assert self.nodes.ears[before.status].superseded_times == 1
            with pytest.raises(StatusUnavailable):
                await before.status.online([("ann", "phone")])

    async def _expect_told(self, users: set[str]) -> None:
        self.to_be_told |= users

    def _woken(self) -> None:
        for name in self.model.processes:
            self.model.wake(name)

    async def _online(self, name: str, process: Process, asked: list[tuple[str, str]]) -> None:
        self.model.wake(name)
        arrivals = await process.status.online(asked)
        for key, arrival in zip(asked, arrivals, strict=True):
            assert arrival.previous == self.model.holder(key)
            assert arrival.first == (not self.model.present(key[0]))
            assert arrival.holding == Holding(*key, name, arrival.holding.turn)
            assert arrival.holding.turn > self.highest
            self.highest = arrival.holding.turn
            self.model.drop(key)
            process.held[key] = (arrival.holding.turn, True)
            self.ever.append(arrival.holding)

    async def _release(self, name: str, process: Process, picks: list[int], *, away: bool) -> None:
        picked = self._picked(picks)
        if not picked:
            return
        self.model.wake(name)
        answers = await (process.status.away if away else process.status.offline)(picked)
        for holding, last in zip(picked, answers, strict=True):
            key = (holding.user, holding.device)
            current = self.model.holder(key)
            changed = False
            outdated = current is not None and current.node == name == holding.node and current.turn < holding.turn
            if current is not None and (current.turn == holding.turn or outdated):
                owner = self.model.processes[current.node]
                changed = owner.held[key][1]
                if away:
                    owner.held[key] = (holding.turn, False)
                else:
                    self.model.drop(key)
            assert last == (not self.model.present(holding.user) and (changed or away))

    async def _away(self, name: str, process: Process, picks: list[int]) -> None:
        await self._release(name, process, picks, away=True)

    async def _offline(self, name: str, process: Process, picks: list[int]) -> None:
        await self._release(name, process, picks, away=False)

    async def _restore(self, name: str, process: Process, picks: list[int], there: list[bool]) -> None:
        picked = self._picked(picks)
        if not picked:
            return
        self.model.wake(name)
        answers = await process.status.restore(picked, there[: len(picked)])
        for holding, connected, answer in zip(picked, there, answers, strict=False):
            key = (holding.user, holding.device)
            current = self.model.holder(key)
            if current is not None and current.turn > holding.turn and current.node != name:
                assert answer == current
            else:
                assert answer is None
                self.model.drop(key)
                process.held[key] = (holding.turn, connected)

    async def _lapse(self, name: str, process: Process) -> None:
        # With nobody left to notice, what it held may still be there when it wakes: it is told to restore it anyway.
        if process.leased and len(self.model.processes) > 1:
            await self._expect_told(self.model.lose(name))
            for other in self.model.processes:
                if other != name:
                    self.model.wake(other)
            await self.nodes.lapse(process.status)

    async def _die(self, name: str, process: Process) -> None:
        if process.leased:
            await self._expect_told(self.model.lose(name))
            del self.model.processes[name]
            self._woken()
            await self.nodes.die(process.status)

    async def _close(self, name: str, process: Process) -> None:
        await self._expect_told(self.model.lose(name))
        del self.model.processes[name]
        await process.status.close()
        await self._settle()

    async def _flush(self) -> None:
        await self._settle()
        for name in self.model.processes:
            self.model.lose(name)
        self.to_be_told.clear()
        await self.nodes.flush()
        await self._settle()

    async def _settle(self) -> None:
        self._woken()
        await self.nodes.settle()

    async def check(self) -> None:
        for process in self.model.processes.values():
            found = await process.status.connectors(USERS)
            assert found == {user: self.model.connectors(user) for user in USERS}
            assert await process.status.present(USERS) == {user for user in USERS if self.model.present(user)}
            ears = self.nodes.ears[process.status]
            await asyncio.sleep(0)
            assert ears.lost == process.expected_losses
            assert ears.superseded_times == 0
        if any(process.leased for process in self.model.processes.values()):
            told = {user for ears in self.nodes.ears.values() for user in ears.left}
            assert {user for user in self.to_be_told if not self.model.present(user)} <= told
            self.to_be_told.clear()
            for ears in self.nodes.ears.values():
                ears.left.clear()


@pytest.mark.parametrize("back_end", list(STATUSES))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(steps=st.lists(operations, max_size=25))
def test_every_order(back_end: str, steps: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        nodes = STATUSES[back_end]()
        try:
            driver = Driver(nodes)
            for name in NAMES[:2]:
                await driver.apply(("start", name))
            for step in steps:
                await driver.apply(step)
                await driver.check()
        finally:
            await nodes.end()

    asyncio.run(run())
