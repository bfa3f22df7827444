"""The transfer over Redis when Redis, or the way to it, is broken: who receives learns that something is missing,
`connected` tells the truth, and it all goes on by itself with nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from aldis.bridge.client_tls import tls_context
from aldis.bridge.framed_transfer import FramedTransfer, TransferLimits
from aldis.bridge.redis_server import RedisServer
from aldis.bridge.redis_transfer import RedisTransfer
from aldis.broker.cluster_ports import Attached, Passed, WakeUp
from tests.contract.transfers import HEARTBEAT, KEY, LIMITS, SILENCE, Nodes, Recorder, RedisNet, eventually
from tests.redis_server import RedisProcess, new_redis
from tests.secure import Papers


@pytest.fixture(scope="module")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The loop of the real server; the contract suite runs on the one of the standard library."""
    return uvloop.EventLoopPolicy()


@pytest.fixture
async def linked(own_redis: RedisProcess) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(RedisNet(own_redis), stack)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


Break = Callable[[Nodes], None]


def _redis(linked: Nodes) -> RedisProcess:
    assert isinstance(linked.net, RedisNet)
    return linked.net.redis


def _swallow(linked: Nodes, *, up: bool, down: bool) -> None:
    assert isinstance(linked.net, RedisNet)
    for proxy in linked.net.proxies.values():
        proxy.swallow_up, proxy.swallow_down = up, down


SILENT: dict[str, tuple[Break, Break]] = {
    "stands still": (lambda linked: _redis(linked).pause(), lambda linked: _redis(linked).resume()),
    "hears nothing": (lambda linked: _swallow(linked, up=True, down=False), lambda linked: linked.net.mend()),
    "is not heard": (lambda linked: _swallow(linked, up=False, down=True), lambda linked: linked.net.mend()),
    "is in a black hole": (lambda linked: _swallow(linked, up=True, down=True), lambda linked: linked.net.mend()),
}
OPEN: dict[str, tuple[Break, Break]] = {
    "was killed": (lambda linked: _redis(linked).kill(), lambda linked: (_redis(linked).start(), None)[1]),
    "was stopped": (lambda linked: _redis(linked).stop(), lambda linked: (_redis(linked).start(), None)[1]),
    "resets everybody": (lambda linked: linked.net.cut(), lambda linked: linked.net.mend()),
}


async def exchange(ann: FramedTransfer, bob: FramedTransfer, at_ann: Recorder, at_bob: Recorder, mark: int) -> None:
    """Both ways, in order."""
    for number in range(mark, mark + 5):
        ann.send("bob", WakeUp("bob", number))
        bob.tell(WakeUp("ann", number))
        await asyncio.sleep(0.001)
    await eventually(lambda: WakeUp("bob", mark + 4) in at_bob.parcels("ann"))
    await eventually(lambda: WakeUp("ann", mark + 4) in at_ann.parcels("bob"))
    for user, got in (("bob", at_bob.parcels("ann")), ("ann", at_ann.parcels("bob"))):
        heads = [parcel.head for parcel in got if isinstance(parcel, WakeUp) and parcel.head >= mark]
        assert heads == [*range(mark, mark + 5)], user


@pytest.mark.parametrize("how", [*SILENT, *OPEN])
async def test_when_redis(linked: Nodes, how: str) -> None:
    breaks, mends = (SILENT | OPEN)[how]
    ann, at_ann, bob, at_bob = await linked.pair()
    await exchange(ann, bob, at_ann, at_bob, 100)
    tasks, files = len(asyncio.all_tasks()), descriptors()
    missed_before = at_bob.count("missed", None)
    for turn in range(2):
        breaks(linked)
        broken = time.monotonic()
        bound = SILENCE + 2 * HEARTBEAT if how in SILENT else 2 * HEARTBEAT
        while ann.connected or bob.connected:
            assert time.monotonic() - broken < bound, "it still says that it is connected"
            ann.send("bob", WakeUp("bob", 1))
            bob.tell(WakeUp("ann", 1))
            await asyncio.sleep(0.01)
        for _ in range(30):
            ann.send("bob", WakeUp("bob", 1))
            await asyncio.sleep(0.02)
            assert not ann.connected and not bob.connected
        mends(linked)
        await eventually(lambda: ann.connected and bob.connected)
        await eventually(lambda turn=turn: at_bob.count("missed", None) > missed_before + turn)  # type: ignore[misc]
        await eventually(lambda: {"ann"} == {*bob.peers} and {"bob"} == {*ann.peers})
        await exchange(ann, bob, at_ann, at_bob, 1_000 * (turn + 1))
    assert at_ann.count("gone", "bob") == at_bob.count("gone", "ann") == 0
    # connections that Redis has not accepted yet are closed, too
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks and descriptors() <= files)


async def test_when_only_the_subscription_is_killed(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    for turn in range(5):
        assert _redis(linked).ask("CLIENT", "KILL", "TYPE", "pubsub") == 2
        await eventually(lambda turn=turn: at_bob.count("missed", None) == turn + 2)  # type: ignore[misc]
        await eventually(lambda turn=turn: at_ann.count("missed", None) == turn + 2)  # type: ignore[misc]
        await eventually(lambda: ann.connected and bob.connected)
        await exchange(ann, bob, at_ann, at_bob, 100 * turn)
    assert ann.figures.reconnects == 5
    assert at_ann.count("gone", "bob") == 0


async def test_what_is_told_while_one_is_away_is_missed_by_that_one_alone(linked: Nodes) -> None:
    ann, _, bob, at_bob = await linked.pair()
    cy, at_cy = await linked.open("cy")
    await eventually(lambda: len(ann.peers) == len(bob.peers) == len(cy.peers) == 2)
    linked.net.cut("bob")
    await eventually(lambda: not bob.connected)
    ann.tell(Attached(("x",)))
    await eventually(lambda: at_cy.parcels("ann") == [Attached(("x",))])
    linked.net.mend()
    await eventually(lambda: at_bob.count("missed", "ann") == 1)
    assert at_bob.parcels("ann") == [] and at_bob.count("missed", None) == 2
    assert at_cy.count("missed", "ann") == 0


async def test_a_node_that_stood_still_keeps_its_link_and_knows_that_it_may_be_late(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    time.sleep(2 * SILENCE)
    assert not ann.connected and not bob.connected
    await eventually(lambda: ann.connected and bob.connected)
    await exchange(ann, bob, at_ann, at_bob, 100)
    assert ann.figures.reconnects == 0 and at_ann.count("missed", None) == 1
    assert at_ann.count("gone", "bob") == 0


async def test_heard_is_when_the_heartbeat_was_sent_not_when_it_came(linked: Nodes) -> None:
    ann, _ = await linked.open("ann", heartbeat=0.4, silence=5.0)
    loop = asyncio.get_running_loop()
    for pause in (0.0, 0.6):
        before = ann.heard
        if pause:
            _redis(linked).pause()
            await asyncio.sleep(pause)
            _redis(linked).resume()
        await eventually(lambda before=before: ann.heard > before)  # type: ignore[misc]
    # one was sent while Redis stood still: 0.4 seconds after the last, 0.2 before Redis went on
    assert 0.1 < loop.time() - ann.heard < 0.4


async def test_what_waits_for_a_redis_that_stands_still_is_bounded(own_redis: RedisProcess) -> None:
    bound = 1_000_000
    limits = TransferLimits(heartbeat=HEARTBEAT, silence=5.0, peer_timeout=60.0, max_waiting_bytes=bound)
    # no proxy: it would take whatever comes
    ann, bob = (RedisTransfer(node, RedisServer(own_redis.url), key=KEY, limits=limits) for node in ("ann", "bob"))
    at_ann, at_bob = Recorder(), Recorder()
    await ann.open(at_ann)
    await bob.open(at_bob)
    await eventually(lambda: "bob" in ann.peers and "ann" in bob.peers)
    own_redis.pause()
    for number in range(6_000):
        ann.send("bob", Passed(f"devices/{number}", bytes(4_000)))
        if number % 50 == 0:
            await asyncio.sleep(0)
        assert ann._out.waiting_bytes <= bound
    assert ann._link is not None and ann._link._transport is not None
    assert ann._link._transport.get_write_buffer_size() < 2_000_000
    dropped = ann.figures.dropped
    assert dropped > 1_000
    own_redis.resume()
    await eventually(lambda: len(at_bob.parcels("ann")) == 6_000 - dropped)
    await eventually(lambda: at_bob.count("missed", "ann") >= 1)
    await exchange(ann, bob, at_ann, at_bob, 100)
    topics = [int(parcel.topic.split("/")[1]) for parcel in at_bob.parcels("ann") if isinstance(parcel, Passed)]
    assert topics == sorted(set(topics)) and ann.figures.dropped == dropped
    await ann.close()
    await bob.close()


async def test_large_frames_come_through(linked: Nodes) -> None:
    ann, _, _, at_bob = await linked.pair()
    sent = [Passed("devices/x", bytes([number]) * 1_000_000) for number in range(12)]
    for parcel in sent:
        ann.send("bob", parcel)
    await eventually(lambda: at_bob.parcels("ann") == sent)
    assert at_bob.count("missed", "ann") == 0


async def test_what_somebody_else_publishes_disturbs_nobody(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair(max_frame_size=4_096)
    before = [*at_bob.events]
    for data in (
        b"",
        b"\x01",
        b"hello",
        b"\r\n>3\r\n",
        os.urandom(3_000),
        bytes(16_384),
        bytes(16_385),
        bytes(5_000_000),
    ):
        linked.net.put("bob", data)
    await eventually(lambda: sum(bob.figures.refused.values()) == 8)
    assert bob.figures.refused["size"] == 2
    assert at_bob.events == before and bob.connected and bob.figures.reconnects == 0
    await exchange(ann, bob, at_ann, at_bob, 100)


async def test_no_task_is_made_for_a_message(linked: Nodes) -> None:
    ann, at_ann, bob, at_bob = await linked.pair()
    before = asyncio.all_tasks()
    made: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: object, **options: object) -> asyncio.Task[object]:
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **options)  # type: ignore[arg-type]

    asyncio.get_running_loop().set_task_factory(factory)  # type: ignore[arg-type]
    try:
        await exchange(ann, bob, at_ann, at_bob, 100)
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    assert not made
    assert asyncio.all_tasks() == before


async def test_with_a_password_and_without_the_right_one(caplog: pytest.LogCaptureFixture) -> None:
    redis = new_redis(password="s3cret word/@:%").start()
    limits = TransferLimits(**LIMITS)
    good = RedisTransfer("ann", RedisServer(redis.url), key=KEY, limits=limits)
    named = RedisTransfer("bob", RedisServer(redis.url.replace("//:", "//default:")), key=KEY, limits=limits)
    at_ann, at_bob = Recorder(), Recorder()
    await good.open(at_ann)
    await named.open(at_bob)
    await eventually(lambda: good.connected and named.connected and "bob" in good.peers)
    for url in (f"redis://:wrong@127.0.0.1:{redis.port}", f"redis://127.0.0.1:{redis.port}"):
        caplog.clear()
        bad = RedisTransfer("cy", RedisServer(url), key=KEY, limits=limits)
        await bad.open(Recorder())
        with caplog.at_level(logging.WARNING):
            await asyncio.sleep(5 * HEARTBEAT)
        assert not bad.connected
        assert len(caplog.records) == 1 and str(redis.port) in caplog.text
        assert "wrong" not in caplog.text.replace("WRONGPASS", "") and "s3cret" not in caplog.text
        await bad.close()
    await good.close()
    await named.close()
    redis.stop()


async def test_over_tls_to_the_right_server_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    papers, others = Papers(tmp_path / "ours"), Papers(tmp_path / "theirs")
    port = new_redis().port
    redis = new_redis(
        *("--tls-port", str(port), "--tls-cert-file", str(papers.certfile), "--tls-auth-clients", "no"),
        *("--tls-key-file", str(papers.keyfile), "--tls-ca-cert-file", str(papers.ca)),
    ).start()
    url, limits = f"rediss://127.0.0.1:{port}/0", TransferLimits(**LIMITS)
    ann = RedisTransfer("ann", RedisServer(url, tls=tls_context(papers.ca)), key=KEY, limits=limits)
    bad = RedisTransfer("bad", RedisServer(url, tls=tls_context(others.ca)), key=KEY, limits=limits)
    await ann.open(Recorder())
    await eventually(lambda: ann.connected)
    await bad.open(Recorder())
    await eventually(lambda: "certificate verify failed" in caplog.text)
    assert not bad.connected
    await bad.close()
    await ann.close()
    redis.stop()


async def test_over_a_socket_in_the_file_system(own_redis: RedisProcess) -> None:
    ann = RedisTransfer("ann", RedisServer(f"unix://{own_redis.socket}"), key=KEY, limits=TransferLimits(**LIMITS))
    await ann.open(Recorder())
    await eventually(lambda: ann.connected)
    await ann.close()


async def test_a_user_who_may_not_publish_is_told_in_the_log(
    own_redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.ask("ACL", "SETUSER", "mute", "on", ">pw", "&*", "+hello", "+subscribe")
    url = f"redis://mute:pw@127.0.0.1:{own_redis.port}"
    ann = RedisTransfer("ann", RedisServer(url), key=KEY, limits=TransferLimits(**LIMITS))
    await ann.open(Recorder())
    await eventually(lambda: "refuses to publish" in caplog.text)
    assert "NOPERM" in caplog.text and not ann.connected
    await ann.close()


@pytest.mark.alone
async def test_closing_while_redis_stands_still_or_is_away_takes_a_bounded_time(own_redis: RedisProcess) -> None:
    for away in (own_redis.pause, own_redis.stop):
        ann = RedisTransfer("ann", RedisServer(own_redis.url), key=KEY, limits=TransferLimits(**LIMITS))
        await ann.open(Recorder())
        await eventually(lambda ann=ann: ann.connected)  # type: ignore[misc]
        away()
        ann.send("bob", WakeUp("bob", 1))
        began = time.monotonic()
        await ann.close()
        assert time.monotonic() - began < 1.5
        own_redis.resume() if own_redis.process else None
