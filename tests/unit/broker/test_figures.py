"""What the node counts, and what is made of it: figures, census, log lines, the time of a shutdown."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable

import pytest

from aldis.broker.census import take_census
from aldis.broker.core.packets import Message
from aldis.broker.figures import Figures, Histogram
from aldis.broker.logs import JsonFormatter, KeyValueFormatter
from aldis.broker.shutdown import Budget
from aldis.config.effective import effective
from aldis.config.layers import Layer, Layers
from aldis.config.secrecy import MASK
from aldis.config.settings import Limits, Settings
from aldis.plugins.metrics import Metrics
from tests.unit.broker.lab import ANONYMOUS, running
from tests.wire import publish

METRICS = "aldis.plugins.metrics.Metrics"


async def soon(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


def test_a_histogram_counts_what_is_at_or_below_each_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2), ("2.0", 4), ("+Inf", 5)]
    assert histogram.total == 7.5


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("inbox/bob/chat/ada", "chat"),
        ("inbox/bob/receipt/ada", "receipt"),
        ("inbox/bob/typing/ada", "typing"),
        ("inbox/bob/sync/ada", "plain"),
        ("inbox/bob/chat", "plain"),
        ("outbox/bob/chat/ada", "plain"),
        ("a", "plain"),
    ],
)
def test_what_comes_is_counted_by_kind_and_qos(topic: str, kind: str) -> None:
    figures = Figures()
    figures.received_on(topic.split("/"), 1)
    assert {name: counts for name, counts in figures.received.items() if any(counts)} == {kind: [0, 1, 0]}


def test_what_is_sent_is_plain_unless_it_is_something_else() -> None:
    figures = Figures()
    figures.sent[:] = [10, 20, 30]
    figures.items["chat"][1] = 5
    figures.items["sync"][0] = 1
    figures.routed["typing"] = 2
    figures.receipts = 7
    found = figures.sent_by_kind()
    assert found["plain"] == [7, 15, 30]
    assert found["receipt"] == [7, 0, 0] and found["typing"] == [2, 0, 0] and found["chat"] == [0, 5, 0]


async def test_a_census_of_sessions_present_and_away() -> None:
    async with running(limits=Limits(max_inflight=2, max_queued=2)) as lab:
        node = lab.node
        receiver = await lab.client("receiver", clean=False)
        await receiver.subscribed(("t", 1))
        away = await lab.client("away", clean=False)
        await away.subscribed(("t", 1))
        away.close()
        sender = await lab.client("sender")
        await soon(lambda: len(node.connections) == 2)
        for id in range(1, 6):
            sender.send(publish("t", b"x", qos=1, id=id))
        node.router.retain(Message("r", b"x", 0, retain=True))
        await soon(lambda: node.figures.plain[1] == 5)
        census = await take_census(node)
        assert census.connections == {"default": 2}
        assert (census.sessions_connected, census.sessions_away, census.sessions_persistent) == (2, 1, 2)
        assert (census.subscriptions, census.retained, census.inflight, census.queued) == (2, 1, 2, 4)
        assert census.dropped == 1 + 3
        assert node.figures.sent == [0, 2, 0]


@pytest.mark.parametrize(
    ("peer", "forwarded", "may"),
    [
        ("127.0.0.1", False, True),
        ("127.8.0.1", False, True),
        ("::1", False, True),
        ("::ffff:127.0.0.1", False, True),
        ("127.0.0.1", True, False),
        ("192.0.2.1", False, False),
        ("::ffff:192.0.2.1", False, False),
        ("", False, False),
        ("localhost", False, False),
    ],
)
async def test_who_may_ask_for_the_metrics(peer: str, forwarded: bool, may: bool) -> None:
    async with running({ANONYMOUS: {}, METRICS: {}}) as lab:
        plugin = lab.connector.plugin(METRICS)
        assert isinstance(plugin, Metrics)
        assert plugin.may_ask(peer, forwarded) is may
        assert b"aldis_sessions" in await plugin.page()


# Logs


def record(message: str, *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("aldis.x", logging.INFO, "", 1, message, arguments, None)
    made.__dict__.update(fields)
    return made


def test_a_json_line_has_the_event_and_its_fields() -> None:
    line = JsonFormatter().format(record("ended: %s", "a\nb", user="ada", device=None, seconds=0.5, level="forged"))
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("ts").endswith("+00:00")
    assert found == {"level": "INFO", "logger": "aldis.x", "event": "ended: a\nb", "user": "ada", "seconds": 0.5}


def test_a_trace_stays_within_its_json_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        made = logging.LogRecord("aldis.x", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    line = JsonFormatter().format(made)
    assert "\n" not in line and "ValueError: no" in json.loads(line)["trace"]


def test_a_text_line_quotes_its_fields() -> None:
    assert KeyValueFormatter().format(record("ended", user="a b", device="")).endswith("aldis.x: ended user='a b'")


# The effective settings


def test_secrets_are_masked_and_files_and_life_times_are_not() -> None:
    layers = Layers([Layer({"plugins": {"a.B": {"password": "x", "url": "redis://u:p@h/1"}}}, lambda _: "file f")])
    found = {one.key: one for one in effective(Settings(**layers.merged()), layers)}
    assert found["plugins.a.B.password"][1:] == (MASK, "file f")
    assert found["plugins.a.B.url"].value == f"redis://{MASK}@h/1"
    assert found["accounts.secret_file"][1:] == ("secrets.json", "default")
    assert found["accounts.access_token_lifetime"].value == "86400.0"


# The time of a shutdown


async def test_a_step_that_hangs_is_given_up_and_the_next_has_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget(0.2)
    clock = asyncio.get_running_loop().time
    began = clock()
    ran = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)  # does not even hear that it shall end

    async def run() -> None:
        ran.append(True)

    async def fail() -> None:
        raise ValueError("no")

    await budget.spend(0.5, "the hanging", hang())
    await budget.spend(0.9, "the running", run())
    assert not budget.complete and ran and clock() - began < 0.2
    await budget.spend(1.0, "the failing", fail())
    assert "the hanging did not end in time" in caplog.text and "the failing failed" in caplog.text


async def test_only_who_does_not_read_is_aborted() -> None:
    class Transport:
        def __init__(self, left: list[int]) -> None:
            self.left = left
            self.aborted = False

        def get_write_buffer_size(self) -> int:
            return self.left.pop() if len(self.left) > 1 else self.left[0]

        def abort(self) -> None:
            self.aborted = True

    reads, deaf = Transport([0, 5, 9]), Transport([7])
    assert await Budget(0.1).drain(1.0, [reads, deaf]) == 1
    assert deaf.aborted and not reads.aborted
