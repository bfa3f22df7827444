"""The JSON of the wire contract: what clients publish to inboxes, and what they receive from them.

The server reads three names of a sender's object (`id`, `seq`, `type`) and never rewrites it: the sender's text is
stored as it came and goes out with the server's own fields in front. So whatever a client signs, encrypts or
adds later arrives unchanged, and the cost per message is one pass over it.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from enum import StrEnum
from itertools import accumulate
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, DecodeError, Meta, Raw, UnsetType

MAX_ID_BYTES = 128
"""Longest `id` as JSON text, quotes included."""

MAX_DEPTH = 60
"""Objects and arrays within each other in one message. The strictest common reader (.NET's) stops at 64, and sync
copies and the history put a few more around it; Python's stops at about 1,000 by raising in the receiver."""

MAX_NUMBER = 2**53 - 1
"""Highest `seq` and `mid`: above it, readers that know only doubles change integers."""


class Reason(StrEnum):
    """Why a publish to an inbox failed, as the `failed` receipt names it. None of them is worth an unchanged retry,
    except where it is said. A failed publish has consumed neither its `id` nor its `seq`."""

    FORBIDDEN = "forbidden"
    """Sender's fault: this account or token may not publish there. Do not retry."""
    NOT_SENDER = "not_sender"
    """Client's fault: the last level of the topic is not the publisher. Correct the topic."""
    NOT_FRIEND = "not_friend"
    """Nobody's fault: the recipient has not accepted the sender, has blocked it, or does not exist. Tell the user."""
    TOO_LARGE = "too_large"
    """Client's fault: the payload exceeds the limit for messages. Send a file over REST and a message that names it."""
    BAD_PAYLOAD = "bad_payload"
    """Client's fault: `id`, `seq` or `type` is of the wrong kind or out of bounds, the object is nested too deeply,
    or it has an escape that is half a surrogate pair. Correct the object."""
    RESERVED_FIELD = "reserved_field"
    """Client's fault: the object contains `n`, `mid` or `ts`, which only the server may say. Rename the field."""
    BAD_RECEIPT = "bad_receipt"
    """Client's fault: what was published to a receipt topic is not `{"type":"read","up_to":mid}`."""
    GAP = "gap"
    """Client's fault, or a lost publish: a lower `seq` did not come in time. Send again from the missing one on."""
    HOLD_BACK_FULL = "hold_back_full"
    """Client's fault: too many publishes wait for a lower `seq`. Send the missing one first, then this one again."""
    STALE_SEQ = "stale_seq"
    """Client's fault: this `seq` belongs to another message already. The counter was reset or used twice; go on
    above the highest `seq` that was answered with `sent`."""
    BAD_TOPIC = "bad_topic"
    """Client's fault: no such topic below an inbox. Correct the topic."""
    RETAIN_REFUSED = "retain_refused"
    """Client's fault: inboxes keep messages by themselves. Publish without RETAIN."""
    RATE = "rate"
    """Client's fault: too many publishes in a short time. Retry the same message later, more slowly."""


class EnvelopeError(ValueError):
    """The client's fault: the payload breaks the wire contract. `id` is the message's id as JSON text where it could
    still be read, so that the `failed` receipt reaches the right message."""

    def __init__(self, reason: Reason, id: str | None) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.id = id


class Envelope(msgspec.Struct, gc=False):
    """A chat payload, checked. `id` is JSON text in one canonical spelling (`"a"` or `17`), `content` a JSON object
    in UTF-8: the sender's own text without outer white space, or one made here around what is no JSON object."""

    id: str | None
    seq: int | None
    content: bytes


class _Fields(msgspec.Struct, gc=False):
    """What the server looks at. msgspec checks the rest of the object and skips it."""

    id: str | int | UnsetType = UNSET
    seq: Annotated[int, Meta(ge=1, le=MAX_NUMBER)] | UnsetType = UNSET
    type: str = "text"
    n: Raw | UnsetType = UNSET
    mid: Raw | UnsetType = UNSET
    ts: Raw | UnsetType = UNSET


class _RawFields(msgspec.Struct, gc=False):
    """The same names with any values: decoding fails only if the payload is not a JSON object at all."""

    id: Raw | UnsetType = UNSET
    seq: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    n: Raw | UnsetType = UNSET
    mid: Raw | UnsetType = UNSET
    ts: Raw | UnsetType = UNSET


class _ReadReceipt(msgspec.Struct, gc=False):
    type: Literal["read"]
    up_to: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]


_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_raw_fields = msgspec.json.Decoder(_RawFields).decode
_decode_receipt = msgspec.json.Decoder(_ReadReceipt).decode
_decode_id = msgspec.json.Decoder(str | int).decode
_decode_seq = msgspec.json.Decoder(Annotated[int, Meta(ge=1, le=MAX_NUMBER)]).decode
_decode_type = msgspec.json.Decoder(str).decode

_QUOTE = ord('"')
_ARRAY = ord("[")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
"""Brackets as signed bytes: one level down, one level up."""
_NO_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))


def parse_chat(payload: bytes) -> Envelope:
    """Reads what a client published to `inbox/{to}/chat/{me}`.

    A payload that is not a JSON object is a message too: text becomes the `body` of one, bytes that are not UTF-8
    become `{"type":"binary","body":"<base64>"}`. Of a name that stands twice, the last one counts, as for JSON readers.
    Raises `EnvelopeError` with `reserved_field` or `bad_payload`.
    """
    # msgspec does not look at the UTF-8 of what it skips, and every receiver would
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            return Envelope(None, None, b'{"type":"binary","body":"%b"}' % b2a_base64(payload, newline=False))
    try:
        fields = _decode_fields(payload)
    except (DecodeError, RecursionError):
        return _parse_unusual(payload)
    id = fields.id
    if fields.n is not UNSET or fields.mid is not UNSET or fields.ts is not UNSET:
        raise EnvelopeError(Reason.RESERVED_FIELD, _id_or_none(id))
    # the first test is the cheap one, and true of most messages: one object without anything nested in it
    if (payload.rfind(b"{") > 0 or _ARRAY in payload) and _is_too_deep(payload):
        raise EnvelopeError(Reason.BAD_PAYLOAD, _id_or_none(id))
    seq = fields.seq
    return Envelope(None if id is UNSET else _id_text(id), None if seq is UNSET else seq, _stripped(payload))


def _parse_unusual(payload: bytes) -> Envelope:
    """The whole truth about a payload that is not an object with fields of the right kind at first sight."""
    if not payload.lstrip().startswith(b"{"):
        return Envelope(None, None, b'{"body":%b}' % _encode(payload.decode()))
    try:
        fields = _decode_raw_fields(payload)
    except RecursionError:
        raise EnvelopeError(Reason.BAD_PAYLOAD, None) from None
    except DecodeError:
        _refuse_half_surrogates(payload)
        return Envelope(None, None, b'{"body":%b}' % _encode(payload.decode()))
    try:
        id = UNSET if fields.id is UNSET else _decode_id(fields.id)
    except (DecodeError, RecursionError):
        id = UNSET
    if fields.n is not UNSET or fields.mid is not UNSET or fields.ts is not UNSET:
        raise EnvelopeError(Reason.RESERVED_FIELD, _id_or_none(id))
    try:
        seq = None if fields.seq is UNSET else _decode_seq(fields.seq)
        if fields.type is not UNSET:
            _decode_type(fields.type)
    except (DecodeError, RecursionError):
        raise EnvelopeError(Reason.BAD_PAYLOAD, _id_or_none(id)) from None
    if (id is UNSET and fields.id is not UNSET) or _is_too_deep(payload):
        raise EnvelopeError(Reason.BAD_PAYLOAD, _id_or_none(id))
    return Envelope(None if id is UNSET else _id_text(id), seq, _stripped(payload))


def _refuse_half_surrogates(payload: bytes) -> None:
    r"""Raises if msgspec refused the object only for an escape such as "\ud800" without its other half.

    The grammar of JSON allows it and JavaScript writes it when a string was cut within an emoji, but many readers
    refuse it. Taking it as text would hide its id from the sender, who would wait for a receipt for ever.
    """
    try:
        # as text: given bytes, json.loads would also read UTF-16
        document = json.loads(payload.decode(), parse_int=_short_int, parse_float=str, parse_constant=_refuse_constant)
    except ValueError:
        return
    except RecursionError:
        raise EnvelopeError(Reason.BAD_PAYLOAD, None) from None
    id = document.get("id")
    if not isinstance(id, str | int) or isinstance(id, bool):
        id = UNSET
    raise EnvelopeError(Reason.BAD_PAYLOAD, _id_or_none(id))


def _short_int(text: str) -> int | None:
    # Python refuses to convert thousands of digits, which says nothing about the JSON around them
    return int(text) if len(text) <= 20 else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_too_deep(payload: bytes) -> bool:
    """Whether this *valid* JSON nests more than `MAX_DEPTH` deep."""
    if payload.count(b"{") + payload.count(b"[") <= MAX_DEPTH:
        return False
    steps = _STRING.sub(b"", payload).translate(_STEPS, _NO_BRACKETS)
    # without the innermost pairs everything is one level less deep, and mostly little is left
    steps = steps.replace(b"\x01\xff", b"")
    return max(accumulate(memoryview(steps).cast("b")), default=0) >= MAX_DEPTH


def _id_text(id: str | int) -> str:
    if isinstance(id, int) and not -(2**63) <= id < 2**64:
        raise EnvelopeError(Reason.BAD_PAYLOAD, None)
    try:
        text = _encode(id)
    except UnicodeEncodeError:
        raise EnvelopeError(Reason.BAD_PAYLOAD, None) from None
    if len(text) > MAX_ID_BYTES:
        raise EnvelopeError(Reason.BAD_PAYLOAD, None)
    return text.decode()


def _id_or_none(id: str | int | UnsetType) -> str | None:
    """The id for a `failed` receipt; an unusable one is not echoed."""
    if id is UNSET:
        return None
    try:
        return _id_text(id)
    except EnvelopeError:
        return None


def _stripped(payload: bytes) -> bytes:
    content = payload.strip()
    # `render_chat` must know the object without any field by its length
    if content[1] != _QUOTE and not content[1:-1].strip():
        return b"{}"
    return content


def parse_receipt(payload: bytes) -> int:
    """Reads `{"type":"read","up_to":mid}`: everything up to this mid was read. Raises `EnvelopeError`."""
    try:
        payload.decode()
        return _decode_receipt(payload).up_to
    except (ValueError, RecursionError):
        raise EnvelopeError(Reason.BAD_RECEIPT, None) from None


def render_chat(n: int, mid: int, ts: int, content: bytes) -> bytes:
    """The payload of `inbox/{me}/chat/{from}`: the stored object with the server's fields in front. `ts` in ms."""
    if len(content) == 2:
        return b'{"n":%d,"mid":%d,"ts":%d}' % (n, mid, ts)
    return b'{"n":%d,"mid":%d,"ts":%d,%b' % (n, mid, ts, content[1:])


def render_sync(n: int, mid: int, ts: int, to: str, device: str, content: bytes) -> bytes:
    """The payload of `inbox/{me}/sync/{me}`: what my other `device` sent to `to`."""
    return b'{"n":%d,"mid":%d,"ts":%d,"to":%b,"device":%b,"message":%b}' % (
        n,
        mid,
        ts,
        _encode(to),
        _encode(device),
        content,
    )


def render_sent(id: str | None, seq: int | None, mid: int, ts: int) -> bytes:
    """The receipt "committed". `id` is JSON text."""
    if seq is None:
        return b'{"type":"sent","id":%b,"mid":%d,"ts":%d}' % (_id_bytes(id), mid, ts)
    return b'{"type":"sent","id":%b,"seq":%d,"mid":%d,"ts":%d}' % (_id_bytes(id), seq, mid, ts)


def render_delivered(up_to: int) -> bytes:
    """The receipt "a device acknowledged everything up to this mid"."""
    return b'{"type":"delivered","up_to":%d}' % up_to


def render_read(up_to: int) -> bytes:
    """The receipt "the app has shown everything up to this mid"."""
    return b'{"type":"read","up_to":%d}' % up_to


def render_presence(*, online: bool, last_seen: int) -> bytes:
    """The payload of `inbox/{me}/presence/{friend}`. `last_seen` in ms."""
    return b'{"online":%b,"last_seen":%d}' % (b"true" if online else b"false", last_seen)


def render_failed(id: str | None, reason: Reason, seq: int | None = None, topic: str | None = None) -> bytes:
    """The receipt "this will not be stored". `id` is JSON text; `topic` helps where there is no id to name."""
    parts: dict[str, Any] = {"type": "failed", "id": Raw(_id_bytes(id)), "reason": reason.value}
    if seq is not None:
        parts["seq"] = seq
    if topic is not None:
        parts["topic"] = topic
    return _encode(parts)


def _id_bytes(id: str | None) -> bytes:
    return b"null" if id is None else id.encode()
