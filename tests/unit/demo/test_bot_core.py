"""The keeper of the bot kit without a network: what is sent again, and what is not taken at all."""

import threading
import time

import pytest

from aldis.mobile_client_demo.bot.access import Access
from aldis.mobile_client_demo.bot.connection import Target
from aldis.mobile_client_demo.bot.core import Core, Limits
from aldis.mobile_client_demo.bot.handlers import Handlers
from aldis.mobile_client_demo.wire import Receipt


class Wire:
    """Takes what is published, and never ends."""

    def __init__(self):
        self.topics = []

    def publish(self, topic, payload, *, qos=1, retain=False):
        self.topics.append(topic)
        return len(self.topics)

    def say_goodbye(self):
        pass


@pytest.fixture
def core(tmp_path):
    target = Target("ada", "bot", ("127.0.0.1", 1), None, None)
    core = Core(
        target, tmp_path / "bot.db", Access("ada", "bot", token="t"),
        handlers=Handlers(), invoke=lambda function, arrived: None, limits=Limits(),
    )  # fmt: skip
    yield core
    core._disk.close()


def test_what_was_too_much_leaves_again_although_something_always_happens(core):
    wire = core._connection = Wire()
    core._up = True
    handle = core.send("bob", {"type": "text", "body": "x"}, ordered=False)
    core._answered(Receipt("failed", "bob", id=handle.id, reason="rate"))
    keeper = threading.Thread(target=core._stay)
    keeper.start()
    until = time.monotonic() + 10
    while len(wire.topics) < 2 and time.monotonic() < until:
        core._events.put(lambda: None)
        time.sleep(0.05)
    meanwhile = list(wire.topics)
    core.stopping.set()
    keeper.join()
    assert meanwhile == ["inbox/bob/chat/ada"] * 2


def test_what_no_server_would_take_is_not_put_into_the_outbox(core):
    """It would be sent for ever, over every restart, and nothing behind it."""
    for to in ("", "a/b", "a+", "#", "b\0b", "b b", "x" * 65, "日", "bob\n"):
        with pytest.raises(ValueError, match="not a user id"):
            core.send(to, {"body": "x"}, ordered=False)
    with pytest.raises(ValueError, match="send it as a file"):
        core.send("bob", {"body": "é" * 100_000}, ordered=False)
    assert core.count_waiting() == 0
    core.send("bob", {"body": "x" * 190_000}, ordered=False)
    assert core.count_waiting() == 1
