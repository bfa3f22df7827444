"""The JSON of the wire contract, against Python's own JSON reader."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from aldis.broker.core.envelope import (
    MAX_DEPTH,
    MAX_ID_BYTES,
    MAX_NUMBER,
    Envelope,
    EnvelopeError,
    Reason,
    parse_chat,
    parse_receipt,
    render_chat,
    render_delivered,
    render_failed,
    render_read,
    render_sent,
    render_sync,
)

RESERVED = ("n", "mid", "ts")
TEXT = st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.sampled_from(RESERVED), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.integers(1, MAX_NUMBER)
IDS = st.text(max_size=20) | st.integers(-(2**63), 2**64 - 1)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    """What a client may publish, fields in any order."""
    fields = draw(st.dictionaries(TEXT.filter(lambda name: name not in (*RESERVED, "id", "seq", "type")), VALUES))
    optional = draw(st.fixed_dictionaries({}, optional={"id": IDS, "seq": NUMBERS, "type": TEXT}))
    return dict(draw(st.permutations([*fields.items(), *optional.items()])))


@st.composite
def spellings(draw: st.DrawFn, document: Any) -> bytes:
    """One of the many ways to write it."""
    text = json.dumps(
        document,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 2, "\t"])),
        separators=draw(st.sampled_from([(",", ":"), (" , ", " : "), (",\r\n", ":")])),
    )
    blank = st.text(" \t\r\n", max_size=3)
    return (draw(blank) + text + draw(blank)).encode()


def pairs(text: bytes) -> list[tuple[str, Any]]:
    """The fields of the outermost object, in order, with doubles."""
    result: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=lambda found: found)
    return result


@given(st.data(), objects(), NUMBERS, NUMBERS, NUMBERS)
def test_what_was_sent_arrives_unchanged_behind_the_servers_fields(
    data: st.DataObject, sent: dict[str, Any], n: int, mid: int, ts: int
) -> None:
    payload = data.draw(spellings(sent))
    envelope = parse_chat(payload)
    delivered = render_chat(n, mid, ts, envelope.content)
    assert pairs(delivered) == [("n", n), ("mid", mid), ("ts", ts), *pairs(payload)]
    assert json.loads(delivered) == {"n": n, "mid": mid, "ts": ts, **sent}
    if sent:
        assert delivered.endswith(payload.strip()[1:])
    assert envelope.seq == sent.get("seq")
    assert ("id" in sent) == (envelope.id is not None)
    if envelope.id is not None:
        assert json.loads(envelope.id) == sent["id"]
        assert type(json.loads(envelope.id)) is type(sent["id"])


@given(st.data(), objects(), st.sampled_from(RESERVED), VALUES)
def test_reserved_fields_are_refused_wherever_and_however_they_are_written(
    data: st.DataObject, fields: dict[str, Any], name: str, value: Any
) -> None:
    members = [(json.dumps(key), json.dumps(item)) for key, item in fields.items()]
    escaped = "".join(
        data.draw(st.sampled_from([letter, f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"])) for letter in name
    )
    place = data.draw(st.integers(0, len(members)))
    members.insert(place, (f'"{escaped}"', json.dumps(value)))
    payload = ("{" + ",".join(f"{key}:{item}" for key, item in members) + "}").encode()
    with pytest.raises(EnvelopeError) as caught:
        parse_chat(payload)
    assert caught.value.reason is Reason.RESERVED_FIELD
    expected = fields.get("id")
    assert (None if caught.value.id is None else json.loads(caught.value.id)) == expected


BITS = st.sampled_from(
    [
        *rb'{ } [ ] , : " \ \u \ud800 \udc00 \u006e n mid "id" "id":1 "seq":1 "seq":0 "type":"x" "n":1'.split(),
        *b"1 - . e5 0 tru null NaN Infinity // '".split(),
        *b"\x00 \x1f \x7f \xff \xc3\xa9 \xed\xa0\x80 \xef\xbb\xbf \xc2\xa0".split(),
        *(b" ", b"\n", b"\x0b"),
    ]
)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """Almost JSON."""
    fields = draw(objects() | st.dictionaries(st.sampled_from(["id", "seq", "type", "body", "n"]), VALUES, max_size=3))
    payload = bytearray(draw(spellings(fields)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(payload)))
        payload[at : at + draw(st.integers(0, 2))] = draw(BITS)
    return bytes(payload)


def read(payload: bytes) -> Any:
    """The payload as a strict JSON reader sees it; raises ValueError if it is not JSON."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return json.loads(payload.decode(), parse_constant=refuse)


@settings(max_examples=300)
@given(mangled() | st.lists(BITS, max_size=12).map(b"".join) | st.binary(max_size=20))
@example(b"")
@example(b'{"a":"\\ud800"}')
@example(b'{"n\\ud800":1,"n":2}')
@example('{"n":1}'.encode("utf-16-le"))
@example(b'\xef\xbb\xbf{"n":1}')
@example(b'{"id":1,"id":"two"}')
@example(b'{"seq":"x","seq":1}')
@example(b'{"seq":1,"seq":"x"}')
@example(b'{"type":[1,2}')
@example(b"{ }")
def test_every_payload_is_taken_as_a_json_reader_sees_it(payload: bytes) -> None:
    try:
        document = read(payload)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        try:
            expected = {"body": payload.decode()}
        except UnicodeDecodeError:
            expected = {"type": "binary", "body": base64.b64encode(payload).decode()}
        envelope = parse_chat(payload)
        assert (envelope.id, envelope.seq, json.loads(envelope.content)) == (None, None, expected)
        return
    try:
        envelope = parse_chat(payload)
    except EnvelopeError as error:
        _check_refusal(error, document, payload)
        return
    assert not set(RESERVED) & set(document)
    assert read(envelope.content) == document
    assert envelope.content == payload.strip(b" \t\r\n") or not document
    assert isinstance(document.get("type", ""), str)
    assert envelope.seq == document.get("seq")
    if envelope.seq is not None:
        assert type(document["seq"]) is int
        assert 1 <= envelope.seq <= MAX_NUMBER
    assert envelope.id == (_canonical(document["id"]) if "id" in document else None)


def _canonical(id: str | int) -> str:
    return json.dumps(id, ensure_ascii=False) if type(id) is str else str(id)


def _check_refusal(error: EnvelopeError, document: dict[str, Any], payload: bytes) -> None:
    """The reason must be true, and an echoed id the one that the sender's reader sees."""
    if error.id is not None:
        assert json.loads(error.id) == document["id"]
    if error.reason is Reason.RESERVED_FIELD:
        assert set(RESERVED) & set(document)
        return
    assert error.reason is Reason.BAD_PAYLOAD
    id = document.get("id", 0)
    good_id = (
        type(id) in (str, int) and len(json.dumps(id, ensure_ascii=False).encode(errors="replace")) <= MAX_ID_BYTES
    )
    good_id = good_id and (type(id) is str or -(2**63) <= id < 2**64)
    seq = document.get("seq", 1)
    good_seq = type(seq) is int and 1 <= seq <= MAX_NUMBER
    good_type = isinstance(document.get("type", ""), str)
    assert not (good_id and good_seq and good_type and not re.search(rb"(?i)\\ud[89a-f]", payload))


@pytest.mark.parametrize(
    ("payload", "id"),
    [
        (b'{"id":null}', None),
        (b'{"id":true}', None),
        (b'{"id":1.0}', None),
        (b'{"id":1e3}', None),
        (b'{"id":["a"]}', None),
        (b'{"id":{"a":1}}', None),
        (b'{"id":18446744073709551616}', None),
        (b'{"id":-9223372036854775809}', None),
        (b'{"id":' + b"1" * 5_000 + b"}", None),
        (b'{"id":"' + b"x" * (MAX_ID_BYTES - 1) + b'"}', None),
        (b'{"id":"' + "é".encode() * 64 + b'"}', None),
        (b'{"id":"\\ud800"}', None),
        (b'{"id":"a","seq":0}', '"a"'),
        (b'{"seq":-1,"id":17}', "17"),
        (b'{"seq":1.0,"id":17}', "17"),
        (b'{"seq":true,"id":17}', "17"),
        (b'{"seq":null,"id":17}', "17"),
        (b'{"seq":"1","id":"17"}', '"17"'),
        (b'{"seq":9007199254740992,"id":1}', "1"),
        (b'{"seq":' + b"1" * 5_000 + b',"id":1}', "1"),
        (b'{"type":5,"id":"q"}', '"q"'),
        (b'{"type":null,"id":"q"}', '"q"'),
        (b'{"id":"q","body":"\\ud83d"}', '"q"'),
        (b'{"id":"q","body":"\\udc00","big":' + b"1" * 5_000 + b"}", '"q"'),
        (b'{"id":"q","\\ud800":1}', '"q"'),
        (b'{"id":true,"body":"\\ud800"}', None),
        (b'{"x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", None),
        (b'{"x":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH, None),
        (b'{"id":[[[' + b"[" * 5_000 + b"]" * 5_003 + b"}", None),
    ],
)
def test_bad_payloads(payload: bytes, id: str | None) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_chat(payload)
    assert (caught.value.reason, caught.value.id) == (Reason.BAD_PAYLOAD, id)


@pytest.mark.parametrize(
    ("payload", "id"),
    [
        (b'{"id":"a\\u0041\\/"}', '"aA/"'),
        (b'{"id":"\\u00e9"}', '"é"'),
        (b'{"id":-0}', "0"),
        (b'{"id":""}', '""'),
        (b'{"id":18446744073709551615}', "18446744073709551615"),
        (b'{"id":-9223372036854775808}', "-9223372036854775808"),
        (b'{"id":"' + b"x" * (MAX_ID_BYTES - 2) + b'"}', '"' + "x" * (MAX_ID_BYTES - 2) + '"'),
        (b'{"id":1,"id":"two"}', '"two"'),
        (b'{"id":[],"id":"two"}', '"two"'),
    ],
)
def test_an_id_has_one_canonical_spelling_and_the_last_one_counts(payload: bytes, id: str) -> None:
    assert parse_chat(payload) == Envelope(id, None, payload)


@pytest.mark.parametrize(
    ("payload", "content"),
    [
        (b"hi", {"body": "hi"}),
        (b"", {"body": ""}),
        (b" ", {"body": " "}),
        (b"42", {"body": "42"}),
        (b"[1]", {"body": "[1]"}),
        (b"null", {"body": "null"}),
        (b'"hi"', {"body": '"hi"'}),
        (b"{", {"body": "{"}),
        (b'{"n":1', {"body": '{"n":1'}),
        (b"{}{}", {"body": "{}{}"}),
        (b'{"a":NaN}', {"body": '{"a":NaN}'}),
        (b"\xef\xbb\xbf{}", {"body": "\ufeff{}"}),
        (b"a\x00b", {"body": "a\0b"}),
        (b"\xff", {"type": "binary", "body": "/w=="}),
        (b'{"a":"\xff"}', {"type": "binary", "body": base64.b64encode(b'{"a":"\xff"}').decode()}),
        (b'{"\xed\xa0\x80":1}', {"type": "binary", "body": base64.b64encode(b'{"\xed\xa0\x80":1}').decode()}),
        (b" { \n } ", {}),
    ],
)
def test_what_is_no_json_object_becomes_the_body_of_one(payload: bytes, content: dict[str, str]) -> None:
    envelope = parse_chat(payload)
    assert (envelope.id, envelope.seq, json.loads(envelope.content)) == (None, None, content)
    assert json.loads(render_chat(1, 2, 3, envelope.content)) == {"n": 1, "mid": 2, "ts": 3, **content}


@given(st.integers(1, 3 * MAX_DEPTH), st.lists(st.booleans(), min_size=1), st.booleans())
@example(MAX_DEPTH, [True], False)
@example(MAX_DEPTH + 1, [True], False)
@example(MAX_DEPTH, [False], True)
@example(MAX_DEPTH + 1, [False], True)
def test_depth_is_bounded_exactly(depth: int, kinds: list[bool], padded: bool) -> None:
    start, end = '{"id":9,"[[[\\"":"{{{","x":', "}"
    for level in range(depth - 1):
        array = kinds[level % len(kinds)]
        start += "[" if array else '{"a":'
        end = ("]" if array else "}") + end
    # neither brackets in strings nor brackets beside each other count
    extra = ',"y":[' + ",".join(["{}", '"]]"'] * 100) + "]" if padded and depth > 1 else ""
    payload = (start + "0" + end.removesuffix("}") + extra + "}").encode()
    try:
        envelope = parse_chat(payload)
    except EnvelopeError as error:
        outcome: object = (error.reason, error.id)
    else:
        outcome = envelope.content
    assert outcome == (payload if depth <= MAX_DEPTH else (Reason.BAD_PAYLOAD, "9"))


@pytest.mark.parametrize("payload", [b'{"a":' * 20_000, b'{"a":' + b"[" * 60_000, b'{"a":' + b'["",' * 15_000])
def test_endless_nesting_is_refused_without_parsing_on(payload: bytes) -> None:
    with pytest.raises(EnvelopeError, match="bad_payload"):
        parse_chat(payload)


@given(st.data(), NUMBERS)
def test_read_receipts(data: st.DataObject, up_to: int) -> None:
    assert parse_receipt(data.draw(spellings({"type": "read", "up_to": up_to}))) == up_to


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"read",
        b"[]",
        b"\xff",
        b'{"type":"read"}',
        b'{"up_to":1}',
        b'{"type":"delivered","up_to":1}',
        b'{"type":"read","up_to":0}',
        b'{"type":"read","up_to":-1}',
        b'{"type":"read","up_to":1.0}',
        b'{"type":"read","up_to":"1"}',
        b'{"type":"read","up_to":true}',
        b'{"type":"read","up_to":9007199254740992}',
        b'{"type":"read","up_to":1,"x":"\xff"}',
        b'{"type":"read","up_to":1,"x":"\\ud800"}',
        b'{"type":"read","up_to":1,"x":' + b"[" * 60_000,
    ],
)
def test_bad_receipts(payload: bytes) -> None:
    with pytest.raises(EnvelopeError) as caught:
        parse_receipt(payload)
    assert (caught.value.reason, caught.value.id) == (Reason.BAD_RECEIPT, None)


@given(IDS, st.none() | NUMBERS, NUMBERS, NUMBERS, st.sampled_from(Reason), st.none() | TEXT)
def test_receipts(id: str | int, seq: int | None, mid: int, ts: int, reason: Reason, topic: str | None) -> None:
    text = parse_chat(json.dumps({"id": id}).encode()).id
    with_seq = {} if seq is None else {"seq": seq}
    with_topic = {} if topic is None else {"topic": topic}
    assert pairs(render_sent(text, seq, mid, ts)) == list(
        {"type": "sent", "id": id, **with_seq, "mid": mid, "ts": ts}.items()
    )
    assert json.loads(render_sent(None, seq, mid, ts))["id"] is None
    failed = {"type": "failed", "id": id, "reason": reason.value, **with_seq, **with_topic}
    assert pairs(render_failed(text, reason, seq, topic)) == list(failed.items())
    assert json.loads(render_failed(None, reason)) == {"type": "failed", "id": None, "reason": reason.value}
    assert json.loads(render_delivered(mid)) == {"type": "delivered", "up_to": mid}
    assert json.loads(render_read(mid)) == {"type": "read", "up_to": mid}
    assert parse_receipt(render_read(mid)) == mid


@given(st.text(), st.text(), objects())
def test_sync_copies_hold_any_device_name(to: str, device: str, message: dict[str, Any]) -> None:
    assume(to)
    copy = render_sync(5, 6, 7, to, device, parse_chat(json.dumps(message).encode()).content)
    expected = {"n": 5, "mid": 6, "ts": 7, "to": to, "device": device, "message": message}
    assert json.loads(copy) == expected
    assert list(json.loads(copy)) == list(expected)


def test_every_reason_says_whose_fault_it_is() -> None:
    assert {str(reason) for reason in Reason} == {reason.name.lower() for reason in Reason}
    assert str(EnvelopeError(Reason.BAD_PAYLOAD, None)) == "bad_payload"
