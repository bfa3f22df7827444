"""What becomes of a message, and what is said about it: receipts (promise 5), repeats (promise 2), every byte of it."""

from __future__ import annotations

import time

from tests.people import bodies, people
from tests.servers import Aldis
from tests.wire import puback, publish, published


def test_receipts_are_sent_again_on_connect(embedded: Aldis) -> None:
    """They are state: whoever was away gets how far it has come, once per conversation, not one receipt per message."""
    ada, bob, carol = people(embedded, "ada", "bob", "carol")
    with ada.online() as sender:
        mids = {peer.user: [sender.say(peer, {"body": n})["mid"] for n in range(20)] for peer in (bob, carol)}
    with bob.online() as device, carol.online() as other:
        device.chats(20)
        other.chats(20)
        device.has_read(ada, mids[bob.user][10])
    with ada.online() as sender:
        wanted = {
            (bob.user, "delivered"): mids[bob.user][-1],
            (bob.user, "read"): mids[bob.user][10],
            (carol.user, "delivered"): mids[carol.user][-1],
        }

        def known() -> dict[tuple[str, str], int]:
            found = [one for one in sender.journal if "/receipt/" in one.topic]
            return {(one.topic.split("/")[3], one.document["type"]): one.document["up_to"] for one in found}

        sender.until(lambda: known() == wanted)
        assert len(sender.documents("receipt")) <= 6  # some may have been raised while we came


def test_delivered_is_said_only_after_the_acknowledgement(embedded: Aldis) -> None:
    """And only up to what has been acknowledged without a gap."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender, bob.dial() as device:
        device.subscribed((f"inbox/{bob.user}/chat/+", 1))
        mids = [sender.say(bob, {"body": number})["mid"] for number in range(5)]
        found = [device.publication() for _ in range(5)]
        for acknowledged, known in (((1, 3), None), ((0,), 1), ((2,), 3), ((4,), 4)):
            device.send(*(puback(found[index].id) for index in acknowledged))
            device.nothing()
            if known is None:
                time.sleep(0.15)  # longer than acknowledgements are collected
                sender.caught_up()
                assert sender.receipts("delivered") == []
            else:
                sender.until(lambda: sender.receipts("delivered"))
                assert [one["up_to"] for one in sender.receipts("delivered")] == [mids[known]]
                sender.documents("receipt").clear()


def test_sent_stands_before_the_puback_in_the_stream(embedded: Aldis) -> None:
    """ADR-0001: who has the PUBACK has the receipt. Byte for byte, for QoS 1 and 2."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.dial() as sender:
        sender.subscribed((f"inbox/{ada.user}/receipt/+", 1))
        for qos, kind in ((1, 4), (2, 5)):
            sender.send(sender.chat_packet(bob, {"id": qos, "body": "x"}, qos=qos, id=77))
            receipt, acknowledgement = published(sender.packet()), sender.packet()
            assert (receipt.document["type"], receipt.document["id"], receipt.qos) == ("sent", qos, 0)
            assert acknowledgement == bytes((kind << 4, 2, 0, 77))


def test_a_repeat_gets_the_first_result(embedded: Aldis) -> None:
    """The same (user, device, id) is one message for ever: on this connection, the next, and by any QoS. The id of
    another device, the number 17 and the text "17" are others."""
    ada, bob = people(embedded, "ada", "bob")
    with bob.online() as receiver:
        with ada.online() as sender:
            first = sender.say(bob, {"id": 17, "body": "one"})
            assert sender.say(bob, {"id": 17, "body": "one"}) == first
            assert sender.say(bob, {"id": 17, "body": "another body"}, qos=2) == first
        with ada.online() as sender:
            assert sender.say(bob, {"id": 17, "body": "one"}) == first
            assert sender.say(bob, {"id": "17", "body": "two"})["mid"] > first["mid"]
        with ada.online("tablet") as tablet:
            assert tablet.say(bob, {"id": 17, "body": "three"})["mid"] > first["mid"]
        assert bodies(receiver.chats(3)) == ["one", "two", "three"]
        receiver.caught_up()
        assert len(receiver.documents()) == 3


def test_a_qos_0_chat_is_stored_like_any_other(embedded: Aldis) -> None:
    """The `sent` receipt is its acknowledgement."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        sender.send(sender.chat_packet(bob, {"id": "small", "body": "21.5"}, qos=0))
        sender.until(lambda: sender.receipts("sent"))
        assert sender.receipts("sent")[0]["id"] == "small"
    with bob.online() as device:
        assert bodies(device.chats(1)) == ["21.5"]
        assert [found.qos for found in device.journal if "/chat/" in found.topic] == [1]  # ADR-0002


def test_the_senders_object_arrives_untouched(embedded: Aldis) -> None:
    """Byte for byte, with the server's fields in front of it."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender, bob.online() as device:
        for written in (
            b'{ "body" : "\\u00e4\xc3\xa4", "b":1.50, "big":123456789012345678901234567890, "body":"twice" }',
            b"{}",
            b'{"enc":{"alg":"A256GCM","n":1},"seq":1}',
        ):
            answer = sender.say(bob, written)
            before = len(device.documents())
            device.chats(before + 1)
            payload = device.journal[-1].payload
            n = device.documents()[-1]["n"]
            front = b'{"n":%d,"mid":%d,"ts":%d' % (n, answer["mid"], answer["ts"])
            assert payload == (front + b"}" if written == b"{}" else front + b"," + written[1:])


def test_typing_is_passed_on_and_never_kept(embedded: Aldis) -> None:
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        sender.published(f"inbox/{bob.user}/typing/{ada.user}", b"{}")
        with bob.online() as device:
            device.caught_up()
            sender.send(publish(f"inbox/{bob.user}/typing/{ada.user}", b"{}"))
            device.until(lambda: device.documents("typing"))
            device.caught_up()
            assert device.documents("typing") == [{}]
