"""Retained messages as a database keeps them, whichever it is: under their owner and the SHA-256 of their topic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from aldis.broker.ports import RetainedMessage

NAMESPACE = "devices/"


class RetainedRow(NamedTuple):
    owner: str
    topic_hash: bytes
    topic: bytes
    payload: bytes
    qos: int


def owner_of(topic: str) -> str:
    """The user below whom the topic lies. Raises `ValueError` for a topic, or the beginning of one, below nobody."""
    owner, slash, _ = topic.removeprefix(NAMESPACE).partition("/")
    if not (topic.startswith(NAMESPACE) and owner and slash):
        raise ValueError(f"retained messages are kept below {NAMESPACE}{{user}}/ only")
    return owner


def retained_rows(messages: Sequence[RetainedMessage]) -> tuple[list[RetainedRow], list[RetainedRow]]:
    """What is to be kept and what is to be removed, one row for each topic, the last one. Each list by its key, so that
    two writers of the same rows wait for one another and never in a circle."""
    last: dict[str, RetainedRow] = {}
    for message in messages:
        topic = message.topic.encode()
        last[message.topic] = RetainedRow(
            owner_of(message.topic), hashlib.sha256(topic).digest(), topic, bytes(message.payload), message.qos
        )
    rows = sorted(last.values())
    return [row for row in rows if row.payload], [row for row in rows if not row.payload]
