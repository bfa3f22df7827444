"""Retained messages stay within their bounds, and none is ever an old value of its topic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aldis.broker.core.packets import Message
from aldis.broker.core.retained import Retained

topics = st.sampled_from(["a", "a/b", "a/b/c", "b", "b/b"])
payloads = st.integers(0, 12).map(bytes)


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 10), st.lists(st.tuples(topics, payloads), max_size=60))
def test_against_a_plain_dict(number: int, room: int, size: int, steps: list[tuple[str, bytes]]) -> None:
    kept = Retained(number, room, size)
    model: dict[str, bytes] = {}

    def used() -> int:
        return sum(len(topic) + len(payload) for topic, payload in model.items())

    for topic, payload in steps:
        model.pop(topic, None)
        fits = len(payload) <= size and len(model) < number and used() + len(topic) + len(payload) <= room
        if payload and fits:
            model[topic] = payload
        assert kept.keep(Message(topic, payload)) == (fits or not payload)
        assert {topic: message.payload for topic, message in kept.items()} == model
        assert (kept.bytes, len(kept)) == (used(), len(model))
        assert all(message.retain for _, message in kept.items())
