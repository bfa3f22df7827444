"""What arrives: every shape of the contract is read, every departure from it is named."""

import json

import pytest

from aldis.mobile_client_demo.wire import Item, Presence, Receipt, Typing, WireError, parse


def arrived(topic, document, *, qos=1, retain=False):
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse("bob", topic, payload, qos=qos, retain=retain)


def test_a_chat_message_keeps_the_senders_fields_in_their_order():
    item = arrived(
        "inbox/bob/chat/alice", {"n": 4, "mid": 9, "ts": 1, "id": "x-1", "seq": 2, "body": "hi", "extra": [1]}
    )
    assert item == Item("chat", "alice", "bob", 4, 9, 1, {"id": "x-1", "seq": 2, "body": "hi", "extra": [1]})
    assert list(item.content) == ["id", "seq", "body", "extra"]
    assert item.id == "x-1"


def test_a_sync_copy_is_from_me_to_its_recipient():
    message = {"id": 7, "body": "hi"}
    item = arrived(
        "inbox/bob/sync/bob", {"n": 1, "mid": 2, "ts": 3, "to": "alice", "device": "laptop", "message": message}
    )
    assert item == Item("sync", "bob", "alice", 1, 2, 3, message, "laptop")
    assert item.id == 7


def test_a_word_of_the_server():
    item = arrived("inbox/bob/system/$server", {"n": 1, "mid": 2, "ts": 3, "type": "friend_request", "from": "alice"})
    assert (item.kind, item.sender, item.content["from"]) == ("system", "$server", "alice")


@pytest.mark.parametrize(
    ("document", "receipt"),
    [
        ({"type": "sent", "id": "a", "mid": 5, "ts": 9}, Receipt("sent", "alice", id="a", mid=5, ts=9)),
        ({"type": "sent", "id": 17, "seq": 1, "mid": 5, "ts": 9}, Receipt("sent", "alice", id=17, mid=5, ts=9)),
        ({"type": "sent", "id": None, "mid": 5, "ts": 9}, Receipt("sent", "alice", mid=5, ts=9)),
        ({"type": "delivered", "up_to": 5}, Receipt("delivered", "alice", up_to=5)),
        ({"type": "read", "up_to": 5}, Receipt("read", "alice", up_to=5)),
        ({"type": "failed", "id": "a", "reason": "blocked"}, Receipt("failed", "alice", id="a", reason="blocked")),
    ],
)
def test_receipts(document, receipt):
    assert arrived("inbox/bob/receipt/alice", document, qos=0) == receipt


def test_presence_and_typing():
    assert arrived("inbox/bob/presence/alice", {"online": True, "last_seen": 1}, qos=0) == Presence("alice", True)
    assert arrived("inbox/bob/typing/alice", {}, qos=0) == Typing("alice")


ITEM = {"n": 1, "mid": 2, "ts": 3}
SYNC = {**ITEM, "to": "alice", "device": "d", "message": {}}


@pytest.mark.parametrize(
    ("topic", "document", "flags", "complaint"),
    [
        ("inbox/carol/chat/alice", ITEM, {}, "not a topic of my inbox"),
        ("inbox/bob/chat", ITEM, {}, "not a topic of my inbox"),
        ("inbox/bob/chat/alice", ITEM, {"retain": True}, "RETAIN"),
        ("inbox/bob/chat/alice", ITEM, {"qos": 0}, "at QoS 0"),
        ("inbox/bob/chat/alice", b"hi", {}, "not JSON"),
        ("inbox/bob/chat/alice", b"\xff", {}, "not JSON"),
        ("inbox/bob/chat/alice", [1], {}, "not a JSON object"),
        ("inbox/bob/chat/alice", b'{"n":1,"mid":2,"ts":3,"n":9}', {}, "twice"),
        ("inbox/bob/chat/alice", {"n": 1, "mid": 2}, {}, "not in front"),
        ("inbox/bob/chat/alice", {"body": "x", **ITEM}, {}, "not in front"),
        ("inbox/bob/chat/alice", {**ITEM, "n": 0}, {}, "n is not"),
        ("inbox/bob/chat/alice", {**ITEM, "mid": "2"}, {}, "mid is not"),
        ("inbox/bob/chat/alice", {**ITEM, "mid": 2**53}, {}, "mid is not"),
        ("inbox/bob/chat/alice", {**ITEM, "ts": True}, {}, "ts is not"),
        ("inbox/bob/chat/alice", {**ITEM, "ts": 1.5}, {}, "ts is not"),
        ("inbox/bob/system/alice", ITEM, {}, "system item from alice"),
        ("inbox/bob/sync/alice", SYNC, {}, "from alice"),
        ("inbox/bob/sync/bob", {**SYNC, "more": 1}, {}, "to, device, message"),
        ("inbox/bob/sync/bob", {**SYNC, "message": "x"}, {}, "an object as message"),
        ("inbox/bob/receipt/alice", {"type": "seen"}, {}, "unknown type of receipt"),
        ("inbox/bob/receipt/alice", {"type": "sent", "id": "a"}, {}, "mid is not"),
        ("inbox/bob/receipt/alice", {"type": "sent", "id": 1.5, "mid": 1, "ts": 1}, {}, "neither text nor number"),
        ("inbox/bob/receipt/alice", {"type": "read", "up_to": -1}, {}, "up_to is not"),
        ("inbox/bob/receipt/alice", {"type": "failed", "id": "a"}, {}, "without a reason"),
        ("inbox/bob/presence/alice", {"online": 1}, {}, "presence without"),
        ("inbox/bob/strange/alice", {}, {}, "unknown kind"),
    ],
)
def test_a_packet_outside_the_contract_is_named(topic, document, flags, complaint):
    with pytest.raises(WireError, match=complaint):
        arrived(topic, document, **flags)


def test_what_is_nested_too_deeply_for_us_is_outside_the_contract_too():
    deep = "[" * 5_000 + "]" * 5_000
    with pytest.raises(WireError, match="not JSON"):
        parse("me", "inbox/me/chat/bob", f'{{"n":1,"mid":1,"ts":1,"body":{deep}}}'.encode(), qos=1, retain=False)
