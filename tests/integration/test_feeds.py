"""Every device, each from its own cursor, once and in order (promise 4)."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.people import Device, bodies, people
from tests.servers import Aldis
from tests.wire import PINGREQ, PINGRESP, RESUMED, puback, suback, subscribe, unsubscribe


def rising(documents: list[dict[str, Any]]) -> bool:
    """n without a gap and without a repeat."""
    numbers = [one["n"] for one in documents]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_each_device_has_its_own_cursor(embedded: Aldis) -> None:
    """What one has taken the others still get, whatever the order in which they come and go."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        phone, tablet = bob.online("phone"), bob.online("tablet")
        for number in range(10):
            sender.say(bob, {"body": number})
        assert bodies(phone.chats(10)) == bodies(tablet.chats(10)) == list(range(10))
        tablet.close()
        for number in range(10, 20):
            sender.say(bob, {"body": number})
        assert bodies(phone.chats(20)) == list(range(20))
        phone.close()
        for number in range(20, 30):
            sender.say(bob, {"body": number})
    with bob.online("tablet") as tablet, bob.online("phone") as phone:
        assert bodies(tablet.chats(20)) == list(range(10, 30))
        assert bodies(phone.chats(10)) == list(range(20, 30))
        assert rising(tablet.documents()) and rising(phone.documents())
        assert phone.documents() == tablet.documents()[10:]


def test_a_new_device_starts_at_the_highest_cursor(embedded: Aldis) -> None:
    """What nobody has taken yet is for it; the rest is history. The first of all gets everything."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        for number in range(5):
            sender.say(bob, {"body": number})
        with bob.online("first") as first:
            assert bodies(first.chats(5)) == list(range(5))
            sender.until(lambda: sender.receipts("delivered"))
        for number in range(5, 8):
            sender.say(bob, {"body": number})
    with bob.online("second") as second, bob.online("first") as first:
        assert bodies(second.chats(3)) == bodies(first.chats(3)) == [5, 6, 7]
        second.caught_up()
        first.caught_up()
        assert len(second.documents()) == len(first.documents()) == 3


def test_sync_copies(embedded: Aldis) -> None:
    """My other devices get what I send, wrapped (ADR-0005), in the same numbering; the sending one does not."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online("tablet") as tablet, ada.online("phone") as phone, bob.online() as other:
        answer = phone.say(bob, {"id": "a1", "body": "hi", "x": [1, {"y": None}]})
        other.say(ada, {"body": "hello"})
        tablet.until(lambda: tablet.documents("sync") and tablet.documents())
        phone.chats(1)
        (copy,) = tablet.documents("sync")
        assert copy["message"] == {"id": "a1", "body": "hi", "x": [1, {"y": None}]}
        assert (copy["to"], copy["device"], copy["mid"], copy["ts"]) == (bob.user, "phone", answer["mid"], answer["ts"])
        assert tablet.documents()[0]["n"] == phone.documents()[0]["n"] == copy["n"] + 1
        phone.caught_up()
        assert phone.documents("sync") == []
        tablet.close()
        phone.say(bob, {"body": "later"})
    with ada.online("tablet") as tablet:
        tablet.until(lambda: tablet.documents("sync"))
        assert tablet.documents("sync")[0]["message"] == {"body": "later"}


def test_a_note_to_oneself(embedded: Aldis) -> None:
    """Reaches every device of mine, the sending one included, as chat from me; there is no copy of it."""
    (ada,) = people(embedded, "ada")
    with ada.online("tablet") as tablet, ada.online("phone") as phone:
        phone.say(ada, {"body": "milk"})
        assert bodies(phone.chats(1)) == bodies(tablet.chats(1)) == ["milk"]
        phone.caught_up()
        tablet.caught_up()
        assert phone.documents("sync") == tablet.documents("sync") == []
        assert len(phone.documents()) == len(tablet.documents()) == 1


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_clean_session_gets_its_backlog_when_it_subscribes(embedded: Aldis, qos: int) -> None:
    """The cursor belongs to the device, not to the MQTT session: without a subscription nothing comes and nothing is
    used up, and a clean session has lost nothing."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        bob.online().disconnect()
        for number in range(250):  # more than a window and than a read of the store
            sender.say(bob, {"body": number})
        with bob.dial() as device:
            device.nothing()
            assert device.asked_for((f"inbox/{bob.user}/#", qos)) == [qos]
            assert bodies(device.chats(250)) == list(range(250))
            assert {found.qos for found in device.journal if "/chat/" in found.topic} == {qos}
            assert rising(device.documents())
            sender.say(bob, {"body": "live"})
            device.chats(251)
        with bob.online(qos=1) as device:
            sender.say(bob, {"body": "next"})
            assert bodies(device.chats(1))[-1] == "next"
            assert device.documents()[0]["n"] >= 251


def test_a_qos_0_subscriber_gives_no_delivered_receipt(embedded: Aldis) -> None:
    """Its cursor moves at the write: at most once. A device beside it that acknowledges gives the receipt."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender, bob.online("gauge", qos=0) as gauge:
        first = sender.say(bob, {"body": 1})
        gauge.chats(1)
        gauge.disconnect()
        with bob.online("gauge", qos=0) as gauge:
            second = sender.say(bob, {"body": 2})
            assert bodies(gauge.chats(1)) == [2]  # the first does not come again
            time.sleep(0.1)  # longer than acknowledgements are collected
            sender.caught_up()
            assert sender.receipts("delivered") == []
            with bob.online("phone") as phone:
                third = sender.say(bob, {"body": 3})
                phone.chats(1)
                sender.until(lambda: sender.receipts("delivered"))
                assert sender.receipts("delivered") == [{"type": "delivered", "up_to": third["mid"]}]
        assert first["mid"] < second["mid"] < third["mid"]


def test_a_qos_2_subscriber(embedded: Aldis) -> None:
    """PUBREC is the acknowledgement: the receipt follows it; the rest goes on beside, over reconnects too."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender, bob.dial(clean=False) as device:
        device.subscribed((f"inbox/{bob.user}/chat/+", 2))
        mids = [sender.say(bob, {"body": number}, qos=2)["mid"] for number in range(3)]
        found = [device.publication() for _ in range(3)]
        assert [one.qos for one in found] == [2, 2, 2]
        sender.caught_up()
        assert sender.receipts("delivered") == []
        device.send(b"\x50\x02" + found[0].id.to_bytes(2, "big"))
        device.expect(b"\x62\x02" + found[0].id.to_bytes(2, "big"))
        sender.until(lambda: sender.receipts("delivered"))
        assert sender.receipts("delivered")[-1]["up_to"] == mids[0]
        device.close()
        with bob.dial(clean=False, answer=RESUMED) as device:
            device.expect(b"\x62\x02" + found[0].id.to_bytes(2, "big"))
            assert [device.take(), device.take()] == [one._replace(dup=True) for one in found[1:]]
            device.send(b"\x70\x02" + found[0].id.to_bytes(2, "big"))
            sender.until(lambda: sender.receipts("delivered")[-1]["up_to"] == mids[2])
            device.nothing()


def test_an_ephemeral_client_is_live_only(embedded: Aldis) -> None:
    """No client identifier: no backlog, no cursor, no entry among the devices; two do not disturb each other."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        sender.say(bob, {"body": "before"})
        guests = []
        for _ in range(2):
            guest = Device(bob, "", embedded.tcp().stream)
            guest.connected("", user=bob.user, password=bob.token("phone"))
            guest.subscribed((f"inbox/{bob.user}/chat/+", 1))
            guests.append(guest)
        sender.say(bob, {"body": "live"})
        for guest in guests:
            assert bodies(guest.chats(1)) == ["live"]
            guest.close()
        sender.say(bob, {"body": "after"})
        assert [one["device_id"] for one in bob.rest("GET", "/v1/devices")] == ["phone"]
    with bob.online() as phone:
        assert bodies(phone.chats(3)) == ["before", "live", "after"]


def test_a_narrow_subscription(embedded: Aldis) -> None:
    """Only what is asked for comes, each at its own QoS; what does not match is passed over, not kept for later."""
    ada, bob, carol = people(embedded, "ada", "bob", "carol")
    with ada.online() as first, carol.online() as second, bob.dial() as device:
        device.caught_up()
        assert device.asked_for((f"inbox/{bob.user}/chat/{ada.user}", 1)) == [1]
        for number in range(3):
            first.say(bob, {"body": f"ada {number}"})
            second.say(bob, {"body": f"carol {number}"})
        assert bodies(device.chats(3)) == ["ada 0", "ada 1", "ada 2"]
        assert device.asked_for((f"inbox/{bob.user}/chat/{carol.user}", 0)) == [0]
        second.say(bob, {"body": "carol 3"})
        first.say(bob, {"body": "ada 3"})
        assert bodies(device.chats(5))[3:] == ["carol 3", "ada 3"]
        assert [found.qos for found in device.journal] == [1, 1, 1, 0, 1]


def test_unsubscribe_and_subscribe_again(embedded: Aldis) -> None:
    """Without a subscription the inbox stands still: what comes meanwhile comes afterwards, in order."""
    ada, bob = people(embedded, "ada", "bob")
    inbox = f"inbox/{bob.user}/#"
    with ada.online() as sender, bob.online() as device:
        sender.say(bob, {"body": 1})
        device.chats(1)
        for round in range(3):
            device.send(unsubscribe(100, inbox))
            while device.read()[0] >> 4 != 11:
                pass
            sender.say(bob, {"body": f"meanwhile {round}"})
            device.caught_up()
            assert len(device.documents()) == 1 + 2 * round
            assert device.asked_for((inbox, 1)) == [1]
            device.chats(2 + 2 * round)
            sender.say(bob, {"body": f"live {round}"})
            device.chats(3 + 2 * round)
        assert bodies(device.documents())[1:] == [
            f"{word} {round}" for round in range(3) for word in ("meanwhile", "live")
        ]
        assert rising(device.documents())


def test_unsubscribe_with_deliveries_open(embedded: Aldis) -> None:
    """What was not acknowledged while the inbox was subscribed comes again after the next SUBSCRIBE, and in order."""
    ada, bob = people(embedded, "ada", "bob")
    inbox = f"inbox/{bob.user}/chat/+"
    with ada.online() as sender, bob.dial() as device:
        device.subscribed((inbox, 1))
        for number in range(4):
            sender.say(bob, {"body": number})
        found = [device.publication() for _ in range(4)]
        device.send(puback(found[0].id), unsubscribe(9, inbox))
        device.expect(b"\xb0\x02\x00\x09")
        device.send(puback(found[1].id))
        device.nothing()
        device.send(subscribe(10, (inbox, 1)))
        device.expect(suback(10, 1))
        assert [device.take().payload for _ in range(3)] == [one.payload for one in found[1:]]
        sender.say(bob, {"body": "live"})
        assert device.take().document["body"] == "live"


def test_a_backlog_of_5000_comes_before_anything_live(embedded: Aldis) -> None:
    """While messages keep arriving: one unbroken row of n, nothing doubled, and the device is live at its end."""
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        bob.online().disconnect()
        for start in range(0, 5_000, 100):
            sender.send(*(sender.chat_packet(bob, {"body": start + number}) for number in range(100)))
            sender.until(lambda: len(sender.acknowledged) == 100)
            sender.acknowledged.clear()
        stop = threading.Event()
        more = [0]

        def go_on() -> None:
            while not stop.is_set():
                sender.say(bob, {"body": 5_000 + more[0]})
                more[0] += 1

        thread = threading.Thread(target=go_on)
        with bob.online() as device:
            thread.start()
            device.chats(5_000 + 50, timeout=20)
            stop.set()
            thread.join()
            device.chats(5_000 + more[0])
            assert bodies(device.documents()) == list(range(5_000 + more[0]))
            assert rising(device.documents())
            assert not any(found.dup for found in device.journal)
        assert more[0] >= 50


def test_a_ping_is_answered_in_the_middle_of_a_backlog(embedded: Aldis) -> None:
    ada, bob = people(embedded, "ada", "bob")
    with ada.online() as sender:
        for number in range(300):
            sender.send(sender.chat_packet(bob, {"body": number}))
        sender.until(lambda: len(sender.acknowledged) == 300)
    with bob.dial() as device:
        device.send(subscribe(1, (f"inbox/{bob.user}/#", 1)), PINGREQ)
        seen: list[bytes] = []
        while PINGRESP not in seen:
            seen.append(device.read())
        device.chats(300)
