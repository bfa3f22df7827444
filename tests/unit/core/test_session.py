"""What a session sends, exchange by exchange (MQTT 3.1.1 chapters 4.3, 4.4 and 4.6)."""

from __future__ import annotations

import pytest

from aldis.broker.core.packets import Message
from aldis.broker.core.session import EPHEMERAL, RELEASED, Reserved, Session
from tests import wire


def session(window: int = 10, queue: int = 10, *, connected: bool = True) -> tuple[Session, list[bytes]]:
    made = Session("alice", "phone", clean=False, max_inflight=window, max_queued=queue)
    out: list[bytes] = []
    if connected:
        made.resume(out)
    return made, out


def written(out: list[bytes]) -> bytes:
    data = b"".join(out)
    out.clear()
    return data


def plain(text: str = "hi", *, retain: bool = False) -> Message:
    return Message("a/b", text.encode(), retain=retain)


def item(n: int) -> Message:
    return Message("inbox/alice/chat/bob", b"item %d" % n, n=n, mid=100 + n, peer="bob")


class TestOnTheWire:
    @pytest.mark.parametrize("retain", [False, True])
    @pytest.mark.parametrize("qos", [0, 1, 2])
    def test_a_delivery(self, qos: int, retain: bool) -> None:
        made, out = session()
        assert made.deliver(plain(retain=retain), qos)
        assert written(out) == wire.publish("a/b", b"hi", qos=qos, id=1, retain=retain)

    @pytest.mark.parametrize("retain", [False, True])
    @pytest.mark.parametrize("qos", [1, 2])
    def test_mqtt_3_3_1_1_what_is_sent_again_is_the_same_with_dup(self, qos: int, retain: bool) -> None:
        made, out = session()
        made.deliver(plain(retain=retain), qos)
        first = written(out)
        made.send_again()
        assert written(out) == bytes((first[0] | 0x08,)) + first[1:]
        made.suspend()
        made.resume(out)
        assert written(out) == bytes((first[0] | 0x08,)) + first[1:]

    def test_one_message_for_many_sessions_is_encoded_once(self) -> None:
        message = plain()
        for _ in range(2):
            made, out = session()
            made.deliver(message, 1)
            assert out[0] is message.head and out[2] is message.payload
            made.deliver(message, 0)
            assert out[3] is message.whole

    def test_a_message_goes_out_at_another_qos_than_it_came(self) -> None:
        message = Message("a/b", b"hi", 1, packet_id=77, head=wire.publish("a/b", b"hi", qos=1, id=77)[:7])
        made, out = session()
        for qos in (1, 2, 0):
            made.deliver(message, qos)
        assert written(out) == b"".join(
            wire.publish("a/b", b"hi", qos=qos, id=id) for qos, id in ((1, 1), (2, 2), (0, 0))
        )


class TestPacketIds:
    def test_mqtt_2_3_1_2_after_65_535_comes_1_or_what_is_free(self) -> None:
        made, out = session(window=3)
        made.deliver(plain("stays"), 1)
        for number in range(2, 65_536):
            made.deliver(plain(), 1)
            assert made.acknowledged(number) is not None
        written(out)
        made.deliver(plain("after"), 1)
        made.deliver(plain("wrap"), 2)
        assert written(out) == wire.publish("a/b", b"after", qos=1, id=2) + wire.publish("a/b", b"wrap", qos=2, id=3)

    def test_a_window_as_large_as_there_are_ids(self) -> None:
        made, _ = session(window=65_535)
        for _ in range(65_535):
            assert made.deliver(plain(), 1)
        assert sorted(made.inflight) == list(range(1, 65_536))
        assert made.room == 0
        assert made.deliver(plain("queued"), 1)
        assert len(made.queue or ()) == 1
        assert made.acknowledged(40_000) is not None
        assert made.queue is None
        assert list(made.inflight)[-1] == 40_000


class TestAcknowledgements:
    def test_a_puback_that_nobody_waits_for_changes_nothing(self) -> None:
        made, out = session()
        made.deliver(plain(), 2)
        written(out)
        assert made.acknowledged(1) is None  # QoS 2 is not settled by a PUBACK
        assert made.acknowledged(9) is None
        assert made.received(1) is not None
        assert made.acknowledged(1) is None
        assert list(made.inflight) == [1]

    def test_mqtt_4_3_3_1_the_flow_of_qos_2(self) -> None:
        made, out = session()
        message = plain()
        made.deliver(message, 2)
        assert written(out) == wire.publish("a/b", b"hi", qos=2, id=1)
        made.completed(1)  # too early: nothing is released yet
        assert made.received(1) is message
        assert made.inflight == {1: RELEASED}
        assert made.received(1) is None  # the PUBREC came twice; the answer does, too
        assert written(out) == wire.pubrel(1) * 2
        made.send_again()
        made.suspend()
        made.resume(out)
        assert written(out) == wire.pubrel(1) * 2  # and never the message again
        made.completed(1)
        assert made.inflight == {}
        assert made.received(1) is None
        assert written(out) == wire.pubrel(1)  # a device that lost our PUBREL with its session would ask for ever

    def test_a_pubrec_for_qos_1_or_for_an_item_not_sent_again_yet_gets_no_answer(self) -> None:
        made, out = session()
        made.deliver(plain(), 1)
        made.deliver_item(item(5), 2)
        made.suspend()
        made.resume(out)
        written(out)
        assert made.received(1) is None
        assert made.received(2) is None
        assert out == []


class TestInboxItems:
    def test_an_absent_device_holds_ids_and_no_content(self) -> None:
        made, _ = session()
        for n in (7, 8, 9):
            made.deliver_item(item(n), 1 + n % 2)
        made.received(1)  # item 7: the device has it
        made.deliver(plain("kept"), 1)
        made.suspend()
        assert [type(entry) for entry in made.inflight.values()] == [type(RELEASED), Reserved, Reserved, Message]
        assert made.reserved == {8: 2, 9: 3}
        assert made.room == 6
        assert [made.is_reserved(n) for n in (7, 8, 9)] == [False, True, True]

    def test_mqtt_4_4_0_1_an_item_keeps_its_packet_id_and_place_and_gets_dup(self) -> None:
        made, out = session()
        for n in (1, 2):
            made.deliver_item(item(n), n)
        made.deliver(plain("behind"), 1)
        made.suspend()
        out.clear()
        made.resume(out)
        assert written(out) == wire.publish(
            "a/b", b"behind", qos=1, id=3, dup=True
        )  # items are the feed's to send again
        made.deliver_item(item(1), 1)
        made.deliver_item(item(2), 2)
        made.deliver_item(item(3), 1)
        assert written(out) == (
            wire.publish("inbox/alice/chat/bob", b"item 1", qos=1, id=1, dup=True)
            + wire.publish("inbox/alice/chat/bob", b"item 2", qos=2, id=2, dup=True)
            + wire.publish("inbox/alice/chat/bob", b"item 3", qos=1, id=4)
        )
        assert list(made.inflight) == [1, 2, 3, 4]

    def test_items_that_will_not_be_sent_again_free_their_ids(self) -> None:
        made, out = session(window=3)
        for n in (1, 2, 3):
            made.deliver_item(item(n), 1)
        made.suspend()
        for text in ("one", "two"):
            made.deliver(plain(text), 1)
        out.clear()
        made.resume(out)
        assert made.room == 0 and out == []
        made.forget_items(1)
        assert written(out) == wire.publish("a/b", b"one", qos=1, id=4)  # no acknowledgement will ever make that room
        assert made.reserved == {2: 2, 3: 3}
        made.forget_items()
        assert written(out) == wire.publish("a/b", b"two", qos=1, id=5)
        assert made.reserved is None and list(made.inflight) == [4, 5]

    def test_an_item_for_a_device_that_is_away_stays_in_its_inbox(self) -> None:
        made, _ = session(connected=False)
        made.deliver_item(item(1), 1)
        assert made.inflight == {} and made.queue is None


class TestLimits:
    def test_the_window_and_the_queue_are_bounded(self) -> None:
        made, out = session(window=2, queue=3)
        assert [made.deliver(plain(), 1 + number % 2) for number in range(7)] == [True] * 5 + [False] * 2
        assert (len(made.inflight), len(made.queue or ()), made.dropped) == (2, 3, 2)
        assert made.deliver(plain(), 0)  # QoS 0 needs no window
        written(out)
        assert made.acknowledged(1) is not None
        assert (len(made.inflight), len(made.queue or ())) == (2, 2)

    def test_nothing_overtakes_the_queue(self) -> None:
        made, out = session(window=1, queue=5)
        for text in ("one", "two", "three"):
            made.deliver(plain(text), 1)
        for id in (1, 2, 3):
            assert made.acknowledged(id) is not None
        assert [wire.published(one).payload for one in split(written(out))] == [b"one", b"two", b"three"]

    def test_a_device_that_is_away_gets_qos_1_and_2_later_and_qos_0_never(self) -> None:
        made, out = session(queue=2, connected=False)
        assert [made.deliver(plain(str(qos)), qos) for qos in (0, 1, 2, 1)] == [False, True, True, False]
        made.resume(out)
        assert written(out) == wire.publish("a/b", b"1", qos=1, id=1) + wire.publish("a/b", b"2", qos=2, id=2)


def split(data: bytes) -> list[bytes]:
    found = []
    while data:
        found.append(data[: 2 + data[1]])
        data = data[2 + data[1] :]
    return found


class TestStalled:
    def test_twice_the_same_oldest_delivery(self) -> None:
        made, _ = session()
        assert not made.stalled()
        made.deliver(plain(), 1)
        assert not made.stalled()
        made.deliver(plain(), 1)
        assert made.stalled() and made.stalled()
        made.acknowledged(1)
        assert not made.stalled()
        assert made.stalled()

    def test_a_step_of_qos_2_is_progress(self) -> None:
        made, _ = session()
        made.deliver(plain(), 2)
        assert not made.stalled()
        made.received(1)
        assert not made.stalled()
        assert made.stalled()  # PUBCOMP is due

    def test_a_new_connection_starts_anew_and_reserved_ids_do_not_count(self) -> None:
        made, out = session()
        made.deliver_item(item(1), 1)
        assert not made.stalled()
        made.suspend()
        made.resume(out)
        assert not made.stalled() and not made.stalled()
        made.deliver_item(item(1), 1)
        assert not made.stalled()
        assert made.stalled()


def test_interest_is_the_highest_qos_that_matches() -> None:
    made, _ = session()
    made.subscriptions = {"inbox/alice/#": 0, "inbox/alice/chat/+": 2, "inbox/+/chat/bob": 1}
    assert made.interest("inbox/alice/chat/bob") == 2
    assert made.interest("inbox/alice/sync/alice") == 0
    assert made.interest("inbox/carol/chat/bob") == 1
    assert made.interest("other") == -1


def test_a_client_without_an_identifier_is_ephemeral() -> None:
    assert Session("alice", f"{EPHEMERAL}1", clean=True, max_inflight=1, max_queued=1).ephemeral
    assert not session()[0].ephemeral
