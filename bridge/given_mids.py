"""Message ids that the caller gives, and not the store: what may be given, and whose a stored one is."""

from __future__ import annotations

from aldis.broker.ports import MidTaken, NewMessage, Stored

BEYOND = 2**53
"""Clients read numbers as floating point: from here on they are not exact."""


class Placed:
    """The message that is stored under a mid, as far as a repeat needs it."""

    __slots__ = ("device", "recipient", "sender", "stored")

    def __init__(self, sender: str, device: str, recipient: str, stored: Stored) -> None:
        self.sender = sender
        self.device = device
        self.recipient = recipient
        self.stored = stored


def given_mids(messages: list[NewMessage]) -> list[int]:
    """In list order, without the messages that the store gives one. Raises `ValueError` for one that cannot be: it
    would push the ids that the database gives out of their range, for good."""
    given = [message.mid for message in messages if message.mid]
    if given and not (min(given) > 0 and max(given) < BEYOND):
        raise ValueError(f"message ids are from 1 to {BEYOND - 1}, not {min(given)} or {max(given)}")
    return given


def same_owner(one: NewMessage | Placed, other: NewMessage | Placed) -> bool:
    return one.sender == other.sender and one.device == other.device and one.recipient == other.recipient


def repeat_of(message: NewMessage, placed: Placed) -> Stored:
    """The first result for this mid. Raises `MidTaken` if it is another message's: to pass that over in silence as a
    repeat would lose `message`."""
    if not same_owner(message, placed):
        raise MidTaken(message.mid)
    first = placed.stored
    return Stored(first.mid, first.n, first.created, first.sync_n, True)
