"""Twenty logins with a clean session while messages pour in: the inbox loses nothing and keeps its order."""

from __future__ import annotations

import threading
import time

from tests.hostile.conftest import Arena
from tests.people import Device, bodies, people


def test_twenty_clean_logins_under_load_lose_and_reorder_nothing(embedded: Arena) -> None:
    """amqtt loses and reorders here. Ours may repeat what was not acknowledged, with its old number; no more."""
    sender, receiver = people(embedded.server, "sender", "flapper")
    total, done = 1_000, threading.Event()

    def pour() -> None:
        with sender.online() as device:
            for number in range(total):
                device.say(receiver, {"id": number, "body": number})
        done.set()

    thread = threading.Thread(target=pour)
    seen: list[dict[str, object]] = []
    thread.start()
    for _ in range(20):
        with receiver.online() as device:
            _read_for(device, 0.05)
            device.disconnect()
            seen += device.documents()
    thread.join(30)
    assert done.is_set()
    with receiver.online() as device:
        device.caught_up()
        while not any(one["body"] == total - 1 for one in [*seen, *device.documents()]):
            device.read()
        seen += device.documents()
    first = list({one["n"]: one for one in seen}.values())
    assert bodies(first) == list(range(total))
    numbers = [one["n"] for one in first]
    assert numbers == sorted(numbers)  # type: ignore[type-var]


def _read_for(device: Device, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            device.read(left)
        except TimeoutError:
            return
