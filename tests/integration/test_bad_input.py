"""Bad input against the embedded server: each has its answer, its one line in the log, and touches nobody else.

Beside every test two friends talk; see `Bystanders`. What needs a server with tight limits is in `test_limits.py`.
"""

from __future__ import annotations

import json
import time

import pytest

from tests.people import Device, Person, bodies, people
from tests.servers import Aldis
from tests.wire import (
    PINGREQ,
    Will,
    connect,
    packet,
    publish,
    refused,
    subscribe,
    text,
)

pytestmark = pytest.mark.usefixtures("others")

MAX_PACKET = 262_144
MAX_MESSAGE = 65_536


def failed(reason: str, id: object = None, **more: object) -> dict[str, object]:
    return {"type": "failed", "id": id, "reason": reason, **more}


# What breaks the protocol

BROKEN = {
    "no packet type": (b"\x00\x00", "malformed packet"),
    "a length of five bytes": (b"\x30\xff\xff\xff\xff\x7f", "malformed packet"),
    "cut within": (packet(0x32, text("devices/x") + b"\x00"), "malformed packet"),
    "not UTF-8": (packet(0x30, text(b"devices/\xff")), "malformed packet"),
    "declared too large": (b"\x30\xff\xff\xff\x7f", "packet too large"),
    "really too large": (publish("devices/x/y", b"x" * MAX_PACKET), "packet too large"),
    "a second CONNECT": (connect("phone"), "packet out of state"),
    "a wildcard in a publish": (publish("inbox/+/chat/ada", b"{}", qos=1, id=1), "bad topic in PUBLISH"),
    "# in a publish": (publish("inbox/#", b"{}", qos=2, id=1), "bad topic in PUBLISH"),
}


@pytest.mark.parametrize(("bad", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_packet_ends_its_connection(
    embedded: Aldis, ada: Device, bob: Device, bad: bytes, reason: str
) -> None:
    """What came before it is handled, what comes after it is not; one line in the log says why."""
    ada.say(bob.person, {"body": "before"})
    ada.send(bad, ada.chat_packet(bob.person, {"body": "after"}))
    ada.closed()
    assert f"connection ended: {reason}" in embedded.end_of(ada)
    assert bodies(bob.chats(1)) == ["before"]
    bob.caught_up()
    assert len(bob.documents()) == 1


OUT_OF_STATE = {
    "PUBLISH": publish("inbox/bob/chat/ada", b"{}"),
    "SUBSCRIBE": subscribe(1, ("#", 0)),
    "PINGREQ": PINGREQ,
}


@pytest.mark.parametrize("early", OUT_OF_STATE.values(), ids=OUT_OF_STATE)
def test_a_packet_before_connect_ends_its_connection(embedded: Aldis, early: bytes) -> None:
    with embedded.tcp() as client:
        client.send(early)
        assert client.closed() == []
        assert "connection ended: packet out of state" in embedded.end_of(client)


@pytest.mark.alone
def test_a_packet_that_is_declared_too_large_is_not_waited_for(embedded: Aldis, ada: Device) -> None:
    """Four bytes are enough: nothing of it is buffered."""
    began = time.monotonic()
    ada.send(b"\x30\x81\x80\x10")  # 262,145 bytes are to follow
    ada.closed()
    assert time.monotonic() - began < 2


def test_a_client_that_vanishes_within_a_packet_has_not_sent_it(embedded: Aldis, ada: Device, bob: Device) -> None:
    ada.send(ada.chat_packet(bob.person, {"body": "never complete"})[:-1])
    ada.close()
    assert "connection ended: connection lost" in embedded.end_of(ada)
    bob.caught_up()
    assert bob.documents() == []


# What is not allowed


def test_not_sender(ada: Device, bob: Device, crowd: list[Person]) -> None:
    """The last level must be the publisher, whoever else it names; the answer goes to the publisher alone."""
    for sender in (crowd[1].user, crowd[2].user, "$server", "", "ADA"):
        id = ada.next_id()
        ada.send(publish(f"inbox/{bob.user}/chat/{sender}", b'{"id":"forged","body":"x"}', qos=1, id=id))
        ada.until(lambda: ada.acknowledged.pop() if ada.acknowledged else 0)
        assert ada.journal[-1].topic == f"inbox/{ada.user}/receipt/{bob.user}"
        assert ada.journal[-1].document == failed("not_sender", "forged")
    bob.caught_up()
    assert bob.documents() == []


@pytest.mark.parametrize(
    "topic",
    [
        "inbox/{bob}",
        "inbox/{bob}/chat",
        "inbox/{bob}/chat/{ada}/x",
        "inbox/{bob}/sync/{ada}",
        "inbox/{bob}/system/{ada}",
        "inbox/{bob}/presence/{ada}",
    ],
)
def test_no_such_topic_in_an_inbox(ada: Device, bob: Device, topic: str) -> None:
    whole = topic.format(ada=ada.user, bob=bob.user)
    ada.send(publish(whole, b"{}", qos=1, id=77))
    ada.until(lambda: ada.acknowledged)
    assert ada.documents("receipt")[-1]["reason"] == "bad_topic"
    bob.caught_up()
    kinds = {one.topic.split("/")[2] for one in bob.journal}
    assert kinds <= {"receipt", "presence"} and b"{}" not in {one.payload for one in bob.journal}


@pytest.mark.parametrize(
    "topic", ["devices/{bob}/x", "devices/{ada}", "elsewhere", "$SYS/x", "/inbox/{bob}/chat/{ada}"]
)
def test_nowhere_to_publish(ada: Device, bob: Device, topic: str) -> None:
    whole = topic.format(ada=ada.user, bob=bob.user)
    ada.send(publish(whole, b"x", qos=1, id=77))
    ada.until(lambda: ada.acknowledged)
    assert ada.journal[-1].topic == f"inbox/{ada.user}/receipt/$server"
    assert ada.journal[-1].document == failed("forbidden", topic=whole)


def test_subscriptions_to_what_is_not_ones_own(ada: Device, bob: Device) -> None:
    """0x80 for each, in its place; what is one's own is granted beside it."""
    wrong = [
        f"inbox/{bob.user}/#",
        f"inbox/{bob.user}/chat/{ada.user}",
        "inbox/#",
        f"inbox/+/chat/{ada.user}",
        "#",
        "+/+/#",
        f"+/{ada.user}/#",
        f"devices/{bob.user}/#",
        "devices/#",
        "$SYS/#",
        f"inbox/{ada.user.upper()}/#",
    ]
    first, last = (f"inbox/{ada.user}/chat/+", 1), (f"devices/{ada.user}/#", 2)
    assert ada.asked_for(first, *((filter, 0) for filter in wrong), last) == [1, *[0x80] * len(wrong), 2]
    bob.say(bob.person, "to myself")
    bob.published(f"devices/{bob.user}/x", b"mine")
    ada.caught_up()
    assert ada.documents() == []


def test_not_friend(ada: Device, bob: Device, crowd: list[Person]) -> None:
    """Strangers, blocked ones, former friends and nobody at all have the same answer: who is blocked is not told."""
    stranger, former, blocker = crowd[2], *people(ada.person.server, "former", "blocker")
    ada.person.befriend(former, blocker)
    former.rest("DELETE", f"/v1/friends/{ada.user}")
    blocker.rest("PUT", f"/v1/blocks/{ada.user}")
    for to in (stranger.user, former.user, blocker.user, "no-such-user"):
        assert ada.say(to, {"id": 5, "seq": 1, "body": "x"}) == failed("not_friend", 5, seq=1)
        assert ada.journal[-1].topic == f"inbox/{ada.user}/receipt/{to}"
    for person in (stranger, former, blocker):
        with person.online() as device:
            device.caught_up()
            assert device.documents() == []


def test_typing_and_receipts_need_a_friend_too(ada: Device, crowd: list[Person]) -> None:
    with crowd[2].online() as stranger:
        for kind, payload in (("typing", b"{}"), ("receipt", b'{"type":"read","up_to":1}')):
            ada.send(publish(f"inbox/{stranger.user}/{kind}/{ada.user}", payload, qos=1, id=3))
            ada.until(lambda: ada.acknowledged)
            ada.acknowledged.clear()
            assert ada.journal[-1].document == failed("not_friend")
        stranger.caught_up()
        assert stranger.journal == []


def test_too_large(ada: Device, bob: Device) -> None:
    """One byte more than the limit is answered, with the connection left open; the limit itself is not."""
    frame = len(json.dumps({"id": "big", "body": ""}))
    largest = {"id": "big", "body": "x" * (MAX_MESSAGE - frame)}
    answer = ada.say(bob.person, {**largest, "body": largest["body"] + "x"})
    assert (answer["type"], answer["reason"], answer["id"]) == ("failed", "too_large", "big")
    assert ada.say(bob.person, largest)["type"] == "sent"  # the failed one has not used the id up
    assert ada.say(bob.person, b"y" * (MAX_MESSAGE + 1))["reason"] == "too_large"
    assert ada.say(bob.person, b"y" * MAX_MESSAGE)["type"] == "sent"
    assert bodies(bob.chats(2)) == [largest["body"], "y" * MAX_MESSAGE]


@pytest.mark.parametrize("field", ["n", "mid", "ts"])
@pytest.mark.parametrize("value", [1, None, {"a": []}])
def test_reserved_fields(ada: Device, bob: Device, field: str, value: object) -> None:
    """However the name is spelled in JSON, wherever in the object it stands; deeper inside it is the sender's own."""
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in field)
    for payload in (
        json.dumps({"id": 7, field: value, "body": "x"}),
        json.dumps({"body": "x", "id": 7, field: value}),
        f'{{"id":7,"{escaped}":{json.dumps(value)}}}',
    ):
        assert ada.say(bob.person, payload.encode()) == failed("reserved_field", 7)
    assert ada.say(bob.person, {"body": {field: value}})["type"] == "sent"
    assert bodies(bob.chats(1)) == [{field: value}]


BAD_PAYLOADS = {
    "id is an object": b'{"id":{},"body":1}',
    "id is null": b'{"id":null}',
    "id is a fraction": b'{"id":1.5}',
    "id is too long": json.dumps({"id": "x" * 200}).encode(),
    "seq is 0": b'{"seq":0}',
    "seq is negative": b'{"seq":-1}',
    "seq is text": b'{"seq":"1"}',
    "seq is too high": b'{"seq":9007199254740992}',
    "type is a number": b'{"type":1}',
    "half a surrogate pair": b'{"body":"\\ud800"}',
    "too deep": b'{"a":' * 100 + b"1" + b"}" * 100,
    "far too deep": b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
}


@pytest.mark.parametrize("payload", BAD_PAYLOADS.values(), ids=BAD_PAYLOADS)
def test_bad_payload(ada: Device, bob: Device, payload: bytes) -> None:
    assert ada.say(bob.person, payload)["reason"] == "bad_payload"
    bob.caught_up()
    assert bob.documents() == []


NOT_AN_OBJECT = {
    "text": (b"hi", "hi"),
    "nothing": (b"", ""),
    "cut JSON": (b'{"body": "x"', '{"body": "x"'),
    "an array": (b"[1,2]", "[1,2]"),
    "a number": (b"17", "17"),
    "white space": (b" ", " "),
    "two objects": (b"{}{}", "{}{}"),
}


@pytest.mark.parametrize(("payload", "body"), NOT_AN_OBJECT.values(), ids=NOT_AN_OBJECT)
def test_what_is_no_json_object_is_taken_whole_as_body(ada: Device, bob: Device, payload: bytes, body: str) -> None:
    assert ada.say(bob.person, payload)["type"] == "sent"
    assert bodies(bob.chats(1)) == [body]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hi",
        b"{",
        b"[]",
        b'{"type":"read"}',
        b'{"type":"delivered","up_to":1}',
        b'{"type":"read","up_to":"1"}',
        b'{"type":"read","up_to":0}',
        b'{"type":"read","up_to":1e3}',
        b'{"type":"read","up_to":9007199254740992}',
        b'{"type":"read","up_to":1,"x":"\xff"}',
    ],
)
def test_a_receipt_must_be_json(ada: Device, bob: Device, payload: bytes) -> None:
    """`delivered` above all: only the server says it, after a real acknowledgement."""
    before = len(bob.documents("receipt"))
    ada.send(publish(f"inbox/{bob.user}/receipt/{ada.user}", payload, qos=1, id=5))
    ada.until(lambda: ada.acknowledged)
    assert ada.documents("receipt")[-1] == failed("bad_receipt")
    bob.caught_up()
    assert bob.documents("receipt")[before:] == []


def test_nobody_reads_what_was_not_sent(ada: Device, bob: Device) -> None:
    """A read receipt far beyond the last message says that the last one was read, no more."""
    mid = bob.say(ada.person, {"body": "x"})["mid"]
    ada.chats(1)
    ada.has_read(bob.person, 2**53 - 1)
    bob.until(lambda: bob.receipts("read"))
    assert bob.receipts("read")[-1] == {"type": "read", "up_to": mid}


def test_retained_into_an_inbox(ada: Device, bob: Device) -> None:
    ada.send(publish(f"inbox/{bob.user}/chat/{ada.user}", b'{"id":"r","body":"x"}', qos=1, id=9, retain=True))
    ada.until(lambda: ada.acknowledged)
    assert ada.documents("receipt")[-1] == failed("retain_refused", "r")
    bob.caught_up()
    assert bob.documents() == []


def test_a_will_into_an_inbox(embedded: Aldis, crowd: list[Person], bob: Device) -> None:
    """Or to anywhere its owner may not publish: refused with 5, and neither session nor will comes into being."""
    person = crowd[0]
    for topic in (
        f"inbox/{bob.user}/chat/{person.user}",
        f"devices/{bob.user}/x",
        "anywhere",
        f"inbox/{person.user}/x",
    ):
        with embedded.tcp() as client:
            will = Will(topic, b'{"body":"gone"}', 1)
            client.send(connect("phone", user=person.user, password=person.token("phone"), clean=False, will=will))
            assert client.closed() == [refused(5)]
            assert "CONNECT refused" in embedded.end_of(client)
    person.dial(clean=False).disconnect()  # session present 0: the refused ones left nothing
    bob.caught_up()
    assert bob.documents() == []


def test_a_will_of_ones_own(crowd: list[Person]) -> None:
    person = crowd[0]
    with (
        person.dial("watcher") as watcher,
        person.dial("sensor", will=Will(f"devices/{person.user}/state", b"gone")) as one,
    ):
        watcher.subscribed((f"devices/{person.user}/#", 0))
        one.close()
        assert watcher.publication().payload == b"gone"
