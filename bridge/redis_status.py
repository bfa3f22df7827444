"""User status on Redis: who holds which device, for several nodes.

What is where in Redis, and what one step is, stands in `redis_status_scripts`. Every call is one script for a whole
batch, or one for each portion of it, so that Redis never stands still for long. Nothing here is a source of truth:
Redis may be emptied, restarted or swapped for another at any time.

Redis should not evict keys to make room (`maxmemory-policy noeviction`, its default): what is evicted is a device that
gets its messages later.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from aldis.bridge.redis_link import RedisLink
from aldis.bridge.redis_script import Script
from aldis.bridge.redis_server import RedisServer
from aldis.bridge.redis_status_scripts import CONNECTORS, HOLD, LEAVE, PRESENT, RELEASE, TEND
from aldis.broker.cluster_ports import Arrival, Holding, StatusEvents, StatusUnavailable

logger = logging.getLogger(__name__)

T = TypeVar("T")

PORTION = 200
"""Devices or users of one script: about a millisecond, in which Redis does nothing else."""

RENEWALS = 3
"""In the time of one lease."""

PROBE = 0.25
"""Seconds between two tries while Redis is away, or less: a sixth of the lease."""

KNOWN_SETS = 10_000
"""Different sets of nodes that are kept decoded; then they are forgotten."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


class RedisUserStatus:
    """Keeps `aldis.broker.cluster_ports.UserStatus`. See there for what the methods promise.

    `lease` and `grace` are seconds; what a node has left is removed `grace` after its lease was first seen to be
    missing, a third of the lease by default. Calls fail within the sum of the server's time-outs, and at once while it
    is known that Redis does not answer; a task finds out when it is there again.
    """

    def __init__(
        self, server: RedisServer, node: str, *, prefix: str = "aldis", lease: float = 10.0, grace: float | None = None
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", node):
            raise ValueError(f"not the name of a node: {node!r}")
        self.node = node
        self._prefix = prefix
        self._lease = lease
        self._grace = lease / RENEWALS if grace is None else grace
        self._link = RedisLink(server)
        self._process = secrets.token_hex(8)
        self._incarnation = 0  # 0: Redis has not given us one yet
        self._grant = 0
        self._highest = 0
        self._ahead = 0.0  # of Redis' clock to the loop's, in seconds
        self._had_nothing = True
        self._events: StatusEvents | None = None
        self._superseded = False
        self._told: list[Any] = []
        self._tending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._sets: dict[bytes, frozenset[str]] = {b"": frozenset()}

    async def open(self, events: StatusEvents) -> None:
        self._events = events
        more = await self._tend()
        self._had_nothing = False
        self._task = asyncio.create_task(self._keep_tending(more), name=f"user status of {self.node}")

    async def close(self) -> None:
        events, self._events = self._events, None
        if events is None:
            return
        # Not cancelled: a script that is under way must not take the lease again after we have given it up.
        self._link.failed.set()
        if self._task is not None:
            await self._task
        await self._link.idle()
        if self._incarnation and not self._superseded:
            try:
                await self._link.run(LEAVE, self._writing())
            except StatusUnavailable as error:
                logger.warning("node %s could not give up its lease, which runs out by itself: %s", self.node, error)
        await self._link.close()

    async def online(self, devices: Sequence[tuple[str, str]]) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for portion in _portions(devices):
            asked = [(user, device, 0, 1) for user, device in portion]
            for (user, device), (turn, _, first, before, its_turn) in zip(
                portion, await self._hold(asked), strict=True
            ):
                previous = Holding(user, device, before, its_turn) if before else None
                arrivals.append(Arrival(Holding(user, device, self.node, turn), previous, first))
        return arrivals

    async def restore(self, holdings: Sequence[Holding], present: Sequence[bool]) -> list[Holding | None]:
        later: list[Holding | None] = []
        for portion in _portions(list(zip(holdings, present, strict=True))):
            asked = [(held.user, held.device, held.turn, int(there)) for held, there in portion]
            for (held, _), (turn, by, *_) in zip(portion, await self._hold(asked), strict=True):
                stands = turn == held.turn
                later.append(None if stands else Holding(held.user, held.device, by, turn))
        return later

    async def away(self, holdings: Sequence[Holding]) -> list[bool]:
        return await self._release(holdings, "away")

    async def offline(self, holdings: Sequence[Holding]) -> list[bool]:
        return await self._release(holdings, "offline")

    async def connectors(self, users: Sequence[str]) -> dict[str, frozenset[str]]:
        sets = self._sets
        found: dict[str, frozenset[str]] = {}
        for portion in _portions(users):
            answer: bytes = await self._link.run(CONNECTORS, (self._prefix, _encode(portion)))
            for user, line in zip(portion, answer.split(b"\n"), strict=True):
                nodes = sets.get(line)
                found[user] = self._decoded(line) if nodes is None else nodes
        return found

    async def present(self, users: Sequence[str]) -> frozenset[str]:
        found: list[str] = []
        for portion in _portions(users):
            answer: bytes = await self._link.run(PRESENT, (self._prefix, _encode(portion)))
            found += [user for user, sign in zip(portion, answer, strict=True) if sign == ord("1")]
        return frozenset(found)

    async def renew(self) -> None:
        """Renews the lease now, and looks after what the dead have left until nothing is to be done; the task does
        this by itself. Raises nothing."""
        while await self._tend():
            pass

    # Asking

    def _writing(self) -> tuple[str | int, ...]:
        """What every script that writes begins with."""
        lease = max(1, round(self._lease * 1_000))
        return self._prefix, self.node, self._incarnation, lease, self._highest, self._process

    async def _write(self, script: Script, *arguments: str | bytes | int) -> list[Any] | None:
        """The answer after the grant; None if a younger process has our name."""
        if not self._incarnation or self._superseded or self._events is None:
            raise StatusUnavailable(f"node {self.node} has no lease")
        answer = await self._link.run(script, (*self._writing(), *arguments))
        if answer is None:
            self._lose_name()
            return None
        if answer == 0:
            self._link.failed.set()  # the next renewal asks what time it is
            raise StatusUnavailable("the clock of Redis has leapt")
        grant, *rest = _decode(answer)
        if grant:
            self._granted(grant)
        else:
            self._lose_name()
        return rest

    async def _hold(self, asked: Sequence[tuple[str, str, int, int]]) -> list[tuple[int, str, bool, str, int]]:
        """For each the turn that stands, who holds it, whether it was the user's first, and who held it before (nobody:
        empty) under which turn."""
        by_when = round((asyncio.get_running_loop().time() + self._ahead + self._link.bound) * 1_000_000)
        answer = await self._write(HOLD, _encode([value for each in asked for value in each]), by_when)
        if answer is None:
            raise StatusUnavailable(f"a younger process has taken the name {self.node}")
        fields = iter(answer)
        held = list(zip(*[fields] * 5, strict=True))
        self._highest = max(self._highest, *(each[0] for each in held))
        return held

    async def _release(self, holdings: Sequence[Holding], how: str) -> list[bool]:
        last: list[bool] = []
        for portion in _portions(holdings):
            asked = [value for held in portion for value in (held.user, held.device, held.turn, held.node == self.node)]
            answer = await self._write(RELEASE, _encode(asked), how)
            assert answer is not None
            last += answer
        return last

    def _decoded(self, line: bytes) -> frozenset[str]:
        if len(self._sets) >= KNOWN_SETS:
            self._sets = {b"": frozenset()}
        nodes = self._sets[line] = frozenset(line.decode().split(" "))
        return nodes

    # The lease

    @property
    def _open(self) -> bool:
        return self._events is not None

    def _granted(self, grant: int, *, was_away: bool = False) -> None:
        """Another grant than the one we know: the lease was not ours in between, and what we held may be gone. Grants
        rise, so an answer that comes late changes nothing. `was_away`: Redis could not be reached, and nobody knows
        which of our scripts it has run."""
        taken = grant > self._grant
        if not taken and not was_away:
            return
        self._grant = max(self._grant, grant)
        self._highest = max(self._highest, grant)
        if not self._had_nothing and self._events is not None:
            logger.warning(
                "node %s tells the user status again what it holds: %s",
                self.node,
                "its lease was lost" if taken else "Redis was away",
            )
            asyncio.get_running_loop().call_soon(self._tell_loss)

    def _tell_loss(self) -> None:
        if self._events is not None:
            self._events.lease_lost()

    def _lose_name(self) -> None:
        if not self._superseded and self._events is not None:
            self._superseded = True
            logger.error("another process has taken the name of node %s", self.node)
            asyncio.get_running_loop().call_soon(self._events.superseded)

    async def _keep_tending(self, more: bool) -> None:
        while self._open and not self._superseded:
            if not more:
                await self._pause()
            try:
                more = await self._tend()
            except Exception:
                # without this task the node would lose its lease and never know
                logger.exception("renewing the lease of node %s failed", self.node)
                more = False

    async def _pause(self) -> None:
        """Until the next renewal; until the next try while Redis is away, the first of them at once."""
        seconds = self._lease / RENEWALS if self._link.up else min(PROBE, self._lease / 6)
        try:
            async with asyncio.timeout(seconds):
                await self._link.failed.wait()
        except TimeoutError:
            pass

    async def _tend(self) -> bool:
        """True if there is more to do at once."""
        async with self._tending:
            return self._open and await self._tend_alone()

    async def _tend_alone(self) -> bool:
        told, self._told = self._told, []
        was_away = not self._link.up
        numbers = PORTION, round(self._grace * 1_000_000), max(1, round(self._lease * 1_000))
        begun = asyncio.get_running_loop().time()
        try:
            answer = await self._link.probe(TEND, (*self._writing(), _encode(told), *numbers))
        except StatusUnavailable:
            await self._link.forget_connections()
            return False
        finally:
            self._link.failed.clear()
        if answer is None:
            self._lose_name()
            return False
        incarnation, grant, more, time, *left = _decode(answer)
        self._incarnation = incarnation
        self._ahead = time / 1_000_000 - begun
        self._granted(grant, was_away=was_away)
        if left and self._events is not None:
            self._tell_left(left[::2])
            self._told = left
        return bool(more)

    def _tell_left(self, users: Sequence[str]) -> None:
        assert self._events is not None
        try:
            self._events.left_behind(users)
        except Exception:
            logger.exception("telling that a node has died failed")


def _portions(whole: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(whole), PORTION):
        yield whole[start : start + PORTION]
