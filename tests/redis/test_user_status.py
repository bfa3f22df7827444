"""The user status on a Redis that fails in every way it can: emptied, restarted, standing still, full, gone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil
import pytest

from aldis.bridge.redis_server import RedisServer
from aldis.bridge.redis_status import RedisUserStatus
from aldis.broker.cluster_ports import StatusUnavailable
from tests.contract.statuses import Ears
from tests.redis_server import RedisProcess, new_redis

LEASE = 1.8
TIMEOUT = 0.5


class Node:
    def __init__(self, redis: RedisProcess, name: str, lease: float = LEASE, grace: float | None = None) -> None:
        self.ears = Ears()
        server = RedisServer(redis.url, connect_timeout=TIMEOUT, answer_timeout=TIMEOUT)
        self.status = RedisUserStatus(server, name, lease=lease, grace=grace)


@asynccontextmanager
async def node(redis: RedisProcess, name: str, lease: float = LEASE, grace: float | None = None) -> AsyncIterator[Node]:
    made = Node(redis, name, lease, grace)
    await made.status.open(made.ears)
    try:
        yield made
    finally:
        await made.status.close()


async def eventually(condition: Callable[[], object], seconds: float = 10) -> float:
    """How long it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


async def back(made: Node) -> float:
    """How long it takes until it can be asked again."""
    begun = time.monotonic()
    while True:
        try:
            await made.status.present(["ann"])
            return time.monotonic() - begun
        except StatusUnavailable:
            assert time.monotonic() - begun < 10
            await asyncio.sleep(0.01)


async def test_a_flush_is_noticed_without_a_question(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one") as one, node(own_redis, "two") as two:
        (held,) = await one.status.online([("ann", "phone")])
        own_redis.flush()
        assert await eventually(lambda: one.ears.lost and two.ears.lost) < LEASE + 1
        assert await one.status.restore([held.holding], [True]) == [None]
        assert await two.status.connectors(["ann"]) == {"ann": {"one"}}
        await asyncio.sleep(LEASE)
        assert (one.ears.lost, two.ears.lost) == (1, 1)
        assert not one.ears.left + two.ears.left


async def test_a_restart_that_keeps_nothing(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one") as one, node(own_redis, "two") as two:
        (held,) = await one.status.online([("ann", "phone")])
        own_redis.kill()
        with pytest.raises(StatusUnavailable):
            await one.status.connectors(["ann"])
        own_redis.start()
        await eventually(lambda: one.ears.lost and two.ears.lost)
        assert await one.status.restore([held.holding], [True]) == [None]
        assert await two.status.connectors(["ann"]) == {"ann": {"one"}}


async def test_a_restart_that_keeps_everything() -> None:
    redis = new_redis(appendfsync="always").start()
    async with node(redis, "one") as one, node(redis, "two") as two:
        await one.status.online([("ann", "phone")])
        redis.kill()
        await asyncio.sleep(LEASE * 1.5)
        redis.start()
        await eventually(lambda: one.ears.lost and two.ears.lost)
        assert await two.status.connectors(["ann"]) == {"ann": {"one"}}
        await asyncio.sleep(LEASE)
        assert not one.ears.left + two.ears.left, "all leases had run out, and nobody was dead"
        assert await two.status.connectors(["ann"]) == {"ann": {"one"}}
    redis.stop()


@pytest.mark.alone
async def test_a_redis_that_stands_still_for_longer_than_the_lease(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one") as one, node(own_redis, "two") as two:
        (held,) = await one.status.online([("ann", "phone")])
        own_redis.pause()
        begun = time.monotonic()
        with pytest.raises(StatusUnavailable):
            await one.status.online([("bob", "phone")])
        assert time.monotonic() - begun < 2 * TIMEOUT + 1, "the first one pays the time-out"
        for _ in range(20):
            begun = time.monotonic()
            with pytest.raises(StatusUnavailable):
                await one.status.connectors(["ann"])
            assert time.monotonic() - begun < TIMEOUT / 2, "nobody else does"
            await asyncio.sleep(0.03)
        await asyncio.sleep(LEASE)
        own_redis.resume()
        assert await back(one) < 2.0
        await eventually(lambda: one.ears.lost and two.ears.lost)
        assert await one.status.restore([held.holding], [True]) == [None]
        await asyncio.sleep(LEASE)
        assert await two.status.connectors(["ann", "bob"]) == {"ann": {"one"}, "bob": frozenset()}
        assert (one.ears.lost, two.ears.lost) == (1, 1)
        assert not one.ears.left + two.ears.left
        assert one.ears.superseded_times == two.ears.superseded_times == 0


async def test_redis_does_nothing_late(own_redis: RedisProcess) -> None:
    """What waits in its buffers while it stands still would take the device from where it has gone meanwhile."""
    async with node(own_redis, "one", lease=60) as one, node(own_redis, "two", lease=60) as two:
        await one.status.online([("bob", "phone")])  # Redis knows the script from now on
        own_redis.pause()
        with pytest.raises(StatusUnavailable):
            await one.status.online([("ann", "phone")])
        await asyncio.sleep(4 * TIMEOUT)
        own_redis.resume()
        await back(one)
        await back(two)
        assert own_redis.ask("EXISTS", "aldis:user:ann") == 0
        (arrival,) = await two.status.online([("ann", "phone")])
        assert (arrival.previous, arrival.first) == (None, True)


async def test_a_leap_of_the_clock_of_redis_costs_one_call(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", lease=60) as one:
        one.status._ahead -= 3_600
        with pytest.raises(StatusUnavailable, match="leapt"):
            await one.status.online([("ann", "phone")])
        await asyncio.sleep(0.1)
        assert await one.status.online([("ann", "phone")])


@pytest.mark.alone
async def test_redis_comes_up_after_the_node(own_redis: RedisProcess) -> None:
    own_redis.stop()
    begun = time.monotonic()
    async with node(own_redis, "one") as one:
        assert time.monotonic() - begun < 2.0
        with pytest.raises(StatusUnavailable):
            await one.status.online([("ann", "phone")])
        await asyncio.sleep(0.5)
        assert one.ears.lost == 0
        own_redis.start()
        await eventually(lambda: one.ears.lost)
        assert await one.status.online([("ann", "phone")])


async def test_a_node_that_opens_while_redis_stands_still_is_not_its_own_successor(own_redis: RedisProcess) -> None:
    """Each of its tries waits in Redis' buffers, and all are run when it goes on."""
    own_redis.pause()
    async with node(own_redis, "one") as one:
        await asyncio.sleep(2)
        own_redis.resume()
        await eventually(lambda: one.ears.lost)
        await asyncio.sleep(LEASE)
        assert await one.status.online([("ann", "phone")])
        assert (one.ears.lost, one.ears.superseded_times) == (1, 0)


async def test_a_redis_that_takes_nothing(own_redis: RedisProcess) -> None:
    """As the former first one of several that stand in for each other: it answers, and refuses."""
    async with node(own_redis, "one") as one:
        own_redis.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StatusUnavailable, match="read only replica"):
            await one.status.online([("ann", "phone")])
        own_redis.ask("REPLICAOF", "NO", "ONE")
        await back(one)
        assert await one.status.online([("ann", "phone")])


HOLDER = """
import asyncio, sys
from aldis.bridge.redis_server import RedisServer
from aldis.bridge.redis_status import RedisUserStatus
from tests.contract.statuses import Ears

async def hold():
    status = RedisUserStatus(RedisServer(sys.argv[1]), "doomed", lease=float(sys.argv[2]))
    await status.open(Ears())
    await status.online([(f"user{number}", "phone") for number in range(450)])
    print("held", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""


async def holder(redis: RedisProcess) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, redis.url, str(LEASE)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    return process


async def test_a_node_that_is_killed(own_redis: RedisProcess) -> None:
    everybody = [f"user{number}" for number in range(450)]
    async with node(own_redis, "one") as one, node(own_redis, "two") as two:
        process = await holder(own_redis)
        assert await one.status.present(everybody) == set(everybody)
        (arrival,) = await one.status.online([("user1", "tablet")])
        assert not arrival.first
        process.kill()
        await process.wait()
        # its lease runs out, that is seen, the grace passes, and that is seen
        took = await eventually(lambda: len(one.ears.left + two.ears.left) == 449)
        assert took < LEASE * (1 + 1 / 3 + 1 / 3 + 1 / 3) + 2
        await asyncio.sleep(LEASE)
        assert one.ears.left + two.ears.left == {user: 1 for user in everybody if user != "user1"}
        assert not (one.ears.left and two.ears.left), "one at a time"
        assert await one.status.present(everybody) == {"user1"}
        assert set(own_redis.ask("KEYS", "*")) == {  # nothing else is left of it
            *("aldis:nodes", "aldis:turn", "aldis:node:one", "aldis:node:two", "aldis:user:user1"),
            next(iter(own_redis.client().scan_iter("aldis:held:*"))),
        }


async def test_a_node_that_is_killed_and_starts_again_at_once(own_redis: RedisProcess) -> None:
    process = await holder(own_redis)
    process.kill()
    await process.wait()
    async with node(own_redis, "doomed", lease=60) as again:
        (arrival,) = await again.status.online([("user1", "phone")])
        assert (arrival.previous, arrival.first) == (None, True)
        await eventually(lambda: len(again.ears.left) >= 449)


async def test_a_node_that_stood_still_and_wakes(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one") as one:
        process = await holder(own_redis)
        process.send_signal(signal.SIGSTOP)
        await eventually(lambda: len(one.ears.left) == 450)
        (taken,) = await one.status.online([("user1", "phone")])
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: own_redis.ask("EXISTS", "aldis:node:doomed"))
        assert await one.status.connectors(["user1"]) == {"user1": {"one"}}
        assert await one.status.offline([taken.holding]) == [True]
        process.kill()
        await process.wait()


async def test_what_the_dead_have_left_does_not_count_before_it_is_removed(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", 60, 60) as one, node(own_redis, "two", 60, 60) as two:
        await two.status.online([("ann", "phone"), ("bob", "phone")])
        own_redis.ask("DEL", "aldis:node:two")
        assert await one.status.present(["ann", "bob"]) == frozenset()
        assert await one.status.connectors(["ann"]) == {"ann": frozenset()}
        (arrival,) = await one.status.online([("ann", "phone")])
        assert (arrival.previous, arrival.first) == (None, True)
        (arrival,) = await one.status.online([("bob", "tablet")])
        assert (arrival.previous, arrival.first) == (None, True)


async def test_a_process_whose_first_answer_was_lost_keeps_its_number(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", 60) as one:
        before = own_redis.ask("GET", "aldis:node:one")
        one.status._incarnation = 0
        await one.status.renew()
        assert own_redis.ask("GET", "aldis:node:one") == before
        assert (one.ears.lost, one.ears.superseded_times) == (0, 0)


async def test_who_was_replaced_leaves_nothing_to_be_removed(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", 60) as one, node(own_redis, "two", 60) as two:
        await one.status.online([("ann", "phone")])
        await two.status.online([("ann", "phone")])
        assert own_redis.ask("KEYS", "aldis:held:one:*") == []


async def test_whoever_tells_and_dies_before_it_is_noted_has_told_nothing(own_redis: RedisProcess) -> None:
    """Told at least once: to forget first and to tell then would be at most once."""
    async with node(own_redis, "one", 60, 0) as one, node(own_redis, "two", 60, 0) as two:
        dead = Node(own_redis, "dead", 60)
        await dead.status.open(dead.ears)
        await dead.status.online([("ann", "phone")])
        own_redis.ask("DEL", "aldis:node:dead")
        await one.status._tend()  # sees that it is dead
        await one.status._tend()
        assert one.ears.left == {"ann": 1}
        await two.status.renew()
        assert not two.ears.left, "somebody else is at it"
        own_redis.ask("DEL", "aldis:node:one", "aldis:sweeping")  # it is dead, too, and its lock has run out
        await two.status.renew()
        assert two.ears.left == {"ann": 1}
        await two.status.renew()
        assert two.ears.left == {"ann": 1}
        await dead.status.close()


async def test_who_has_come_back_by_then_is_not_told_to_be_gone(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", 60, 0) as one, node(own_redis, "two", 60, 0) as two:
        await two.status.online([("ann", "phone"), ("bob", "phone")])
        own_redis.ask("DEL", "aldis:node:two")
        await one.status.renew()
        (arrival,) = await one.status.online([("ann", "tablet")])
        assert arrival.first
        await one.status.renew()
        assert one.ears.left == {"bob": 1}


async def test_closing_while_redis_stands_still(own_redis: RedisProcess) -> None:
    one = Node(own_redis, "one")
    await one.status.open(one.ears)
    await one.status.online([("ann", "phone")])
    own_redis.pause()
    begun = time.monotonic()
    await one.status.close()
    assert time.monotonic() - begun < 4 * TIMEOUT + 1
    await one.status.close()
    own_redis.resume()


async def test_nothing_is_left_of_a_closed_node(own_redis: RedisProcess) -> None:
    async with node(own_redis, "two"):
        tasks, descriptors = asyncio.all_tasks(), psutil.Process().num_fds()
        for _ in range(3):
            async with node(own_redis, "one") as one:
                await asyncio.gather(*(one.status.online([(f"user{number}", "phone")]) for number in range(50)))
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == tasks
        assert psutil.Process().num_fds() <= descriptors
        await asyncio.sleep(LEASE)
        assert set(own_redis.ask("KEYS", "*")) == {"aldis:nodes", "aldis:turn", "aldis:node:two"}
        assert len(own_redis.ask("HGETALL", "aldis:nodes")) == 1


async def test_a_batch_is_one_round_trip(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", lease=60) as one:

        def scripts() -> int:
            with own_redis.client() as client:
                figures = client.info("commandstats")
            return int(figures["cmdstat_evalsha"]["calls"])

        users = [f"user{number}" for number in range(200)]
        for spell in range(2):
            arrivals = await one.status.online([(user, "phone") for user in users])
            holdings = [each.holding for each in arrivals]
            for call in (
                lambda: one.status.connectors(users),
                lambda: one.status.present(users),
                lambda: one.status.away(holdings),  # noqa: B023
                lambda: one.status.restore(holdings, [True] * 200),  # noqa: B023
                lambda: one.status.offline(holdings),  # noqa: B023
            ):
                before = scripts()
                await call()
                assert spell == 0 or scripts() == before + 1  # the first time it is sent whole


async def test_callers_who_give_up_disturb_nobody(own_redis: RedisProcess) -> None:
    async with node(own_redis, "one", lease=60) as one:
        await one.status.online([(f"user{number}", "phone") for number in range(20)])

        async def ask(number: int, patience: float) -> None:
            async with asyncio.timeout(patience):
                user = f"user{number}"
                assert await one.status.connectors([user]) == {user: {"one"}}

        for spell in range(20):
            await asyncio.gather(*(ask(n, 0.0005 * (n % 7)) for n in range(20)), return_exceptions=True)
            await asyncio.gather(*(ask(n, 1) for n in range(20)))
            assert one.ears.lost == 0, spell


@pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 65, "é", "a\n"])
def test_a_name_that_no_node_may_have(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a node"):
        RedisUserStatus(RedisServer("redis://127.0.0.1"), name)
