"""The client on a stock paho, against a server that the test plays by hand."""

import threading

import pytest

from aldis.mobile_client_demo.client import Client
from aldis.mobile_client_demo.encryption import Keyring, RelationKey, encrypt
from aldis.mobile_client_demo.journal import (
    Arrived,
    Disconnected,
    ItemAcknowledged,
    Journal,
    Malformed,
    Missing,
    PublishAcknowledged,
    Published,
    ReceiptArrived,
    Subscribed,
)
from aldis.mobile_client_demo.rest import Login

KEY = RelationKey(1, bytes(32))
PUBLISH, PUBACK, DISCONNECT = 0x30, 0x40, 0xE0
CHAT, RECEIPT = "inbox/bob/chat/alice", "inbox/bob/receipt/alice"


@pytest.fixture
def journal():
    return Journal()


@pytest.fixture
def client(broker, journal):
    keys = Keyring()
    keys.add("alice", KEY)
    client = Client(journal, Login("bob", "laptop", "token", "refresh"), address=broker.address, keys=keys, timeout=2)
    yield client
    client.cut()


@pytest.fixture
def connect(broker, client):
    """Connects the client to the broker and returns the broker's end."""

    def connect(**greeting):
        ends = []

        def serve():
            end = broker.accept()
            ends.append((end, end.greet(**greeting)))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client.connect()
        finally:
            thread.join()
        connect.packets = ends[0][1]
        return ends[0][0]

    return connect


def kinds(journal):
    return [type(event) for event in journal.events()]


def chat(n, **fields):
    return {"n": n, "mid": n + 100, "ts": 1, "id": f"p-{n}", "body": f"text {n}", **fields}


def test_it_connects_with_user_token_device_and_a_persistent_session(connect, client, journal):
    connect(resumed=True)
    hello, subscribe = connect.packets
    assert hello.body == b"\x00\x04MQTT\x04\xc0\x00\x1e" + b"\x00\x06laptop" + b"\x00\x03bob" + b"\x00\x05token"
    assert subscribe.body[2:] == b"\x00\x0binbox/bob/#\x01"
    assert journal.events()[0] == Subscribed(user="bob", device="laptop", resumed=True, at=journal.events()[0].at)
    assert client.online


@pytest.mark.parametrize(
    ("greeting", "complaint"),
    [
        ({"code": 5}, "refused it .*Not authorized"),
        ({"code": 3}, "refused it .*unavailable"),
        ({"granted": 0x80}, "in place of QoS 1"),
        ({"granted": 0}, "in place of QoS 1"),
    ],
)
def test_a_refusal_is_told_and_ends_the_connection(connect, client, greeting, complaint):
    with pytest.raises(Missing, match=complaint):
        connect(**greeting)
    assert not client.online


def test_nobody_there_is_told(broker, client):
    broker.close()
    with pytest.raises(Missing, match="cannot connect"):
        client.connect()


def test_a_silent_server_is_given_up(broker, journal):
    login = Login("bob", "laptop", "token", "refresh")
    client = Client(journal, login, address=broker.address, keys=Keyring(), timeout=0.2)
    with pytest.raises(Missing, match=r"no subscription for bob on laptop \(waited 0.2 s\)"):
        client.connect()
    client.cut()


def test_an_item_is_acknowledged_after_it_was_taken(connect, client, journal):
    end = connect()
    end.publish(CHAT, chat(1), qos=1, packet_id=7)
    assert end.receive(PUBACK).packet_id == 7
    assert [item.id for item in client.items] == ["p-1"]
    assert client.text(client.items[0]) == "text 1"
    assert kinds(journal) == [Subscribed, Arrived, ItemAcknowledged]


def test_a_repeat_of_n_is_acknowledged_and_dropped(connect, client, journal):
    end = connect()
    for packet_id in (1, 2):
        end.publish(CHAT, chat(1), qos=1, packet_id=packet_id)
        assert end.receive(PUBACK).packet_id == packet_id
    assert len(client.items) == 1 and len(client.repeats) == 1
    assert [event.repeated for event in journal.events() if isinstance(event, Arrived)] == [False, True]


def test_held_items_are_acknowledged_in_order_on_release(connect, client, journal):
    end = connect()
    client.hold()
    for n in (1, 2, 3):
        end.publish(CHAT, chat(n), qos=1, packet_id=n)
    client.wait(lambda: len(client.items) == 3, "three items")
    assert ItemAcknowledged not in kinds(journal)
    client.release()
    assert [end.receive(PUBACK).packet_id for _ in range(3)] == [1, 2, 3]


def test_it_dies_in_place_of_an_acknowledgement(connect, client, journal):
    end = connect()
    client.die_after(2)
    end.publish(CHAT, chat(1), qos=1, packet_id=1)
    assert end.receive(PUBACK).packet_id == 1
    for n in (2, 3):
        end.publish(CHAT, chat(n), qos=1, packet_id=n)
    assert end.receive() is None, "the stream must end without DISCONNECT"
    assert [item.n for item in client.items] == [1, 2]
    assert not client.online
    end = connect()
    end.publish(CHAT, chat(2), qos=1, packet_id=1)
    assert end.receive(PUBACK).packet_id == 1
    assert [item.n for item in client.repeats] == [2]


def test_an_acknowledgement_held_over_a_reconnect_is_forgotten(connect, client):
    end = connect()
    client.hold()
    end.publish(CHAT, chat(1), qos=1, packet_id=9)
    client.wait(lambda: len(client.items) == 1, "one item")
    client.cut()
    end = connect()
    client.release()
    end.publish(CHAT, chat(2), qos=1, packet_id=1)
    assert end.receive(PUBACK).packet_id == 1, "packet 9 belongs to the old connection"


def test_a_text_is_sent_encrypted_with_id_and_seq(connect, client, journal):
    end = connect()
    message = client.send("alice", "hello")
    packet = end.receive(PUBLISH)
    assert packet.topic == "inbox/alice/chat/bob"
    assert packet.flags == 0x02
    assert list(packet.document) == ["id", "seq", "type", "enc", "body"]
    assert packet.document == message.content
    assert client._keys.decrypt("alice", sender="bob", recipient="alice", content=packet.document) == "hello"
    assert not message.acknowledged
    end.acknowledge(packet)
    client.wait(lambda: message.acknowledged, "a PUBACK")
    end.publish(RECEIPT, {"type": "sent", "id": message.id, "seq": 1, "mid": 5, "ts": 1})
    client.wait(lambda: message.mid == 5, "a sent")
    assert kinds(journal) == [Subscribed, Published, PublishAcknowledged, ReceiptArrived]


def test_what_is_published_offline_leaves_at_the_next_connection(connect, client):
    messages = [client.send("alice", text) for text in ("one", "two")]
    end = connect()
    assert [end.receive(PUBLISH).document["id"] for _ in messages] == [message.id for message in messages]


def test_what_is_not_settled_leaves_again_with_the_same_id(connect, client, journal):
    end = connect()
    settled, acknowledged, answered, lost = (client.send("alice", text) for text in ("one", "two", "three", "four"))
    packets = [end.receive(PUBLISH) for _ in range(4)]
    end.acknowledge(packets[0])
    end.acknowledge(packets[1])
    for message, mid in ((settled, 5), (answered, 7)):
        end.publish(RECEIPT, {"type": "sent", "id": message.id, "seq": message.seq, "mid": mid, "ts": 1})
    client.wait(lambda: settled.settled and acknowledged.acknowledged and answered.mid == 7, "answers")
    client.cut()
    end = connect()
    again = [end.receive(PUBLISH) for _ in range(3)]
    assert [packet.document for packet in again] == [acknowledged.content, answered.content, lost.content]
    assert [event.again for event in journal.events() if isinstance(event, Published)] == [False] * 4 + [True] * 3


def test_the_app_says_what_it_has_shown(connect, client):
    end = connect()
    client.say_read("alice", 12)
    packet = end.receive(PUBLISH)
    assert (packet.topic, packet.document) == ("inbox/alice/receipt/bob", {"type": "read", "up_to": 12})


def test_an_app_that_is_offline_cannot_say_what_it_has_shown(client):
    with pytest.raises(Missing, match="bob on laptop is offline"):
        client.say_read("alice", 12)


def test_receipts_move_the_progress_of_their_peer(connect, client):
    end = connect()
    end.publish(RECEIPT, {"type": "delivered", "up_to": 7})
    end.publish(RECEIPT, {"type": "read", "up_to": 6})
    progress = client.outbox.progress("alice")
    client.wait(lambda: (progress.delivered, progress.read) == (7, 6), "two receipts")


@pytest.mark.parametrize("payload", [b"\xff\xfe", b"[]", b'{"n":0,"mid":1,"ts":1}', b'{"body":"x"}'])
def test_a_bad_packet_is_noted_and_the_connection_lives_on(connect, client, journal, payload):
    end = connect()
    end.publish(CHAT, payload, qos=1, packet_id=1)
    assert end.receive(PUBACK).packet_id == 1
    end.publish(CHAT, chat(1), qos=1, packet_id=2)
    assert end.receive(PUBACK).packet_id == 2
    assert kinds(journal) == [Subscribed, Malformed, Arrived, ItemAcknowledged]


def test_a_text_that_cannot_be_decrypted_is_none(connect, client):
    end = connect()
    sealed = encrypt(RelationKey(1, bytes([1] * 32)), sender="alice", recipient="bob", text="x")
    good = encrypt(KEY, sender="alice", recipient="bob", text="x")
    end.publish(CHAT, chat(1, **sealed), qos=1, packet_id=1)
    end.publish(CHAT, chat(2, **good), qos=1, packet_id=2)
    end.publish(CHAT, chat(3, body=["not", "text"]), qos=1, packet_id=3)
    client.wait(lambda: len(client.items) == 3, "three items")
    assert [client.text(item) for item in client.items] == [None, "x", None]


def test_a_copy_of_what_i_sent_decrypts_with_the_friends_key(connect, client):
    end = connect()
    message = {"id": "q", **encrypt(KEY, sender="bob", recipient="alice", text="mine")}
    copy = {"n": 1, "mid": 2, "ts": 3, "to": "alice", "device": "phone", "message": message}
    end.publish("inbox/bob/sync/bob", copy, qos=1)
    client.wait(lambda: len(client.items) == 1, "a copy")
    assert client.text(client.items[0]) == "mine"


def test_disconnect_says_goodbye(connect, client, journal):
    end = connect()
    client.disconnect()
    assert end.receive(DISCONNECT) is not None
    assert kinds(journal) == [Subscribed, Disconnected]
    client.disconnect()
    client.cut()
    assert kinds(journal) == [Subscribed, Disconnected]


def test_a_wait_that_fails_names_what_is_missing_and_a_lost_connection(connect, client):
    end = connect()
    end.close()
    client.wait(lambda: not client.online, "the end")
    client._timeout = 0.05
    with pytest.raises(Missing, match=r"a sent .*bob on laptop is offline: the server closed the connection"):
        client.wait(lambda: False, "a sent")
