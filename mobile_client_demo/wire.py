"""What arrives under `inbox/{me}/#`, parsed and held strictly to the contract. Pure.

A server that breaks the contract in shape (a missing number, a wrong QoS, `n` not in front) is noticed here and
nowhere else: `parse` returns a good record or raises `WireError` saying what is wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

LARGEST = 2**53
"""Every number on the wire is below this, so that a JavaScript client reads it exactly."""


class WireError(Exception):
    """The packet is not what the contract says."""


@dataclass(frozen=True, slots=True)
class Item:
    """One numbered item of my inbox: a chat message, a sync copy of what another device of mine sent, or a word of
    the server. `content` is what the sender wrote, without the server's fields; `ts` is Unix time in milliseconds."""

    kind: Literal["chat", "sync", "system"]
    sender: str
    recipient: str
    n: int
    mid: int
    ts: int
    content: dict[str, Any]
    device: str | None = None
    """The device that sent it; known for sync copies only."""

    @property
    def id(self) -> str | int | None:
        value = self.content.get("id")
        return value if isinstance(value, str | int) else None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What has become of something I sent to `peer`. `delivered` and `read` are cumulative, by `up_to`."""

    type: Literal["sent", "delivered", "read", "failed"]
    peer: str
    id: str | int | None = None
    mid: int = 0
    ts: int = 0
    up_to: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Presence:
    friend: str
    online: bool
    last_seen: int = field(default=0, compare=False)
    """Milliseconds, 0 where nothing was said."""


@dataclass(frozen=True, slots=True)
class Typing:
    friend: str


Incoming = Item | Receipt | Presence | Typing


def parse(me: str, topic: str, payload: bytes | bytearray, *, qos: int, retain: bool) -> Incoming:
    """The record that a packet carries; `WireError` if it is none of the contract."""
    levels = topic.split("/")
    if len(levels) != 4 or levels[:2] != ["inbox", me]:
        raise WireError(f"not a topic of my inbox: {topic}")
    kind, other = levels[2:]
    if retain:
        raise WireError("an inbox packet with the RETAIN flag")
    document = _document(payload)
    if kind in ("chat", "sync", "system"):
        if qos != 1:
            raise WireError(f"an inbox item at QoS {qos}")
        return _item(me, kind, other, document)
    if kind == "receipt":
        return _receipt(other, document)
    if kind == "presence":
        if not isinstance(document.get("online"), bool):
            raise WireError("presence without online: true or false")
        seen = document.get("last_seen")
        return Presence(other, document["online"], seen if type(seen) is int and 0 < seen < LARGEST else 0)
    if kind == "typing":
        return Typing(other)
    raise WireError(f"unknown kind of packet: {kind}")


def _document(payload: bytes | bytearray) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise WireError("a name occurs twice in the payload")
        return dict(pairs)

    try:
        document = json.loads(payload, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        # what is nested too deeply for us would else come again for ever
        raise WireError(f"the payload is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise WireError("the payload is not a JSON object")
    return document


def _item(me: str, kind: str, other: str, document: dict[str, Any]) -> Item:
    if list(document)[:3] != ["n", "mid", "ts"]:
        raise WireError(f"n, mid, ts are not in front: {', '.join(list(document)[:3])}")
    n, mid, ts = (_number(document, name) for name in ("n", "mid", "ts"))
    rest = {name: value for name, value in document.items() if name not in ("n", "mid", "ts")}
    if kind == "chat":
        return Item("chat", other, me, n, mid, ts, rest)
    if kind == "system":
        if other != "$server":
            raise WireError(f"a system item from {other}")
        return Item("system", other, me, n, mid, ts, rest)
    to, device, message = rest.get("to"), rest.get("device"), rest.get("message")
    if other != me or list(rest) != ["to", "device", "message"]:
        raise WireError(f"a sync copy is to, device, message from myself, not {', '.join(rest)} from {other}")
    if not isinstance(to, str) or not isinstance(device, str) or not isinstance(message, dict):
        raise WireError("a sync copy has texts as to and device, and an object as message")
    return Item("sync", me, to, n, mid, ts, message, device)


def _receipt(peer: str, document: dict[str, Any]) -> Receipt:
    match document.get("type"):
        case "sent":
            return Receipt("sent", peer, _id(document), _number(document, "mid"), _number(document, "ts"))
        case "delivered":
            return Receipt("delivered", peer, up_to=_number(document, "up_to"))
        case "read":
            return Receipt("read", peer, up_to=_number(document, "up_to"))
        case "failed":
            reason = document.get("reason")
            if not isinstance(reason, str) or not reason:
                raise WireError("a failed receipt without a reason")
            return Receipt("failed", peer, _id(document), reason=reason)
        case other:
            raise WireError(f"unknown type of receipt: {other!r}")


def _number(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or not 0 < value < LARGEST:
        raise WireError(f"{name} is not a positive whole number below 2**53: {value!r}")
    return value


def _id(document: dict[str, Any]) -> str | int | None:
    value = document.get("id")
    if value is not None and type(value) not in (str, int):
        raise WireError(f"id is neither text nor number: {value!r}")
    return value
