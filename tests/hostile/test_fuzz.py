"""The short form of the fuzz: the committed corpus again, and what hypothesis makes of the same choices.

`make fuzz` lets a fuzzer led by coverage go on from here for as long as one likes.
"""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.broker.connection import Connection
from aldis.broker.core.codec import Decoder, TopicCache
from aldis.broker.core.session import Session
from aldis.broker.ports import StoreUnavailable
from scripts.fuzz import NAMES
from tests import wire
from tests.hostile import nodes
from tests.hostile.fuzzing import TARGETS, inputs
from tests.hostile.recipes import Choices
from tests.unit.broker.chat import chatting

ROUNDS = dict.fromkeys(TARGETS, 250) | {"codec": 1_000, "envelope": 1_000, "inbox": 60}


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_that_was_kept_is_harmless(target: str) -> None:
    kept = inputs(target)
    assert kept
    for name, data in kept.items():
        try:
            TARGETS[target](data)
        except Exception as error:
            error.add_note(f"input {name}")
            raise


def test_the_script_knows_every_target() -> None:
    assert NAMES == tuple(TARGETS)


def fuzz(target: str) -> Callable[[], None]:
    @settings(max_examples=ROUNDS[target])
    @given(st.binary(max_size=300))
    def tries(data: bytes) -> None:
        TARGETS[target](data)

    return tries


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_break_a_promise(target: str) -> None:
    fuzz(target)()


@pytest.mark.parametrize("target", ["codec", "connection", "inbox", "websocket"])
def test_kept_inputs_bent_break_no_promise(target: str) -> None:
    """Each choice of a kept input changed, cut or doubled: what hypothesis alone would not find its way to."""
    kept = sorted(inputs(target).values())

    @settings(max_examples=ROUNDS[target] // 2)
    @given(st.sampled_from(kept), st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 3))
    def tries(data: bytes, place: int, put: bytes, drop: int) -> None:
        at = place % (len(data) + 1)
        TARGETS[target](data[:at] + put + data[at + drop :])

    tries()


STREAMS = {
    "many small packets": wire.PINGREQ * 10,
    "many packets with a topic each": b"".join(wire.publish(f"t/{i}", b"x", qos=1, id=1) for i in range(10)),
    "long lengths": b"\x32\x85\x80\x80\x00\x00\x01a\x00\x07" * 2,
    "filters": wire.subscribe(1, *((f"a/+/{i}", 1) for i in range(20))),
    "large payloads": wire.publish("t", bytes(5_000), qos=2, id=3),
}


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_the_codec_takes_time_in_proportion_to_its_bytes(stream: bytes, piece: int) -> None:
    """Eight times as many bytes take no more than sixteen times as long, whatever they are and however they come."""

    def seconds(times: int) -> float:
        data = stream * times
        decoder = Decoder(10_000, TopicCache(8))
        started = time.process_time()
        for at in range(0, len(data), piece):
            decoder.feed(data[at : at + piece])
        elapsed = time.process_time() - started
        assert decoder.failure is None and decoder.buffered == 0
        return elapsed

    few = max(1, 20_000 // len(stream))
    assert min(seconds(8 * few) for _ in range(3)) < 16 * max(min(seconds(few) for _ in range(5)), 0.001)


def test_a_connection_that_ends_in_its_first_tick_leaves_no_coroutine_behind() -> None:
    """A fuzzer's finding: CONNECT and the end of the connection in one tick left a warning in the server's log."""

    async def play(ground: nodes.Ground, _: Choices) -> None:
        connection, _wire = ground.connection()
        connection.data_received(wire.connect("one", user="u"))
        connection.connection_lost(None)
        await asyncio.sleep(0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nodes.play(play, b"")
        gc.collect()
    assert [str(one.message) for one in caught] == []


@pytest.mark.parametrize("target", ["connection", "websocket"])
def test_clients_that_come_and_go_leave_no_object_behind(target: str) -> None:
    """Whatever they did: once their deadlines have passed nothing of them is left in the node."""

    def left() -> int:
        for data in inputs(target).values():
            TARGETS[target](data)
        gc.collect()
        return sum(isinstance(one, Connection | Session) for one in gc.get_objects())

    before = left()
    assert left() == before


async def test_a_commit_whose_answer_is_lost_still_reaches_the_recipient() -> None:
    """A fuzzer's finding: what the first attempt had stored came back as a repeat, of which no device was told. The
    message waited for the next one."""
    async with chatting(("ann", "ben")) as chat:
        ann, ben = await chat.person("ann"), await chat.person("ben")
        chat.store.after = True
        chat.store.errors = [StoreUnavailable("the line broke between COMMIT and its answer")]
        ann.say("ben", {"id": "a", "body": "once"}, id=1)
        await ann.expect_acknowledged(1)
        (heard,) = await ben.heard(1)
        assert (heard["n"], heard["body"]) == (1, "once")
        await ben.nothing()
