"""Promises 1 and 5 at the connector: PUBACK = committed, and receipts that are true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aldis.config.settings import Limits
from tests import wire
from tests.unit.broker.chat import OURS, Person, chatting
from tests.unit.broker.lab import until

FRIENDS = ("ann", "ben")


async def answers(person: Person, id: int) -> list[dict[str, Any]]:
    """What comes up to this PUBACK: documents."""
    found = []
    while (packet := await person.packet()) != wire.puback(id):
        found.append(wire.published(packet).document)
    return found


class TestCommitted:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_nothing_is_acknowledged_before_it_is_committed(self, qos: int) -> None:
        async with chatting(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            chat.store.break_down()
            ann.say("ben", {"id": "m", "body": "hi"}, id=3, qos=qos)
            await chat.store.attempted(3)
            await ann.nothing()
            await ben.nothing()
            chat.store.repair()
            receipt = await ann.publication()
            assert receipt.qos == 0
            assert (receipt.topic, receipt.document["type"]) == ("inbox/ann/receipt/ben", "sent")
            if qos:
                await ann.expect(wire.puback(3) if qos == 1 else wire.pubrec(3))
            else:
                await ann.nothing()
            message = await ben.publication()
            assert message.topic == "inbox/ben/chat/ann"
            assert message.document["mid"] == receipt.document["mid"]
            assert message.document | {"n": 1, "id": "m", "body": "hi"} == message.document

    async def test_the_receipt_stands_in_front_of_the_acknowledgement(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann = await chat.person("ann")
            for id in range(1, 6):
                ann.say("ben", {"id": id, "body": "hi"}, id=id)
            for id in range(1, 6):
                (receipt,) = await answers(ann, id)
                assert receipt["id"] == id

    @pytest.mark.parametrize("to", ["ben", "cyd"])
    async def test_mqtt_4_3_3_a_repeated_qos_2_publish_gets_its_receipt_again(self, to: str) -> None:
        """The first one went down with the connection. Without it the sender would take a refusal for an acceptance."""
        async with chatting(FRIENDS) as chat:
            ben = await chat.person("ben")
            ann = await chat.person("ann", clean=False)
            ann.say(to, {"id": "m", "body": "hi"}, id=3, qos=2)
            first = await ann.publication()
            await ann.expect(wire.pubrec(3))
            again = Person(*await chat.open())
            chat.clients.append(again)
            again.user = "ann"
            await again.connected("phone", answer=wire.RESUMED, user="ann", clean=False)
            for _ in range(2):
                again.say(to, {"id": "m", "body": "hi"}, id=3, qos=2, dup=True)
                found = [await again.packet() for _ in range(2)]
                assert wire.published(found[0]).document == first.document
                assert found[1] == wire.pubrec(3)
            again.send(wire.pubrel(3))
            await again.expect(wire.pubcomp(3))
            if to == "ben":
                await ben.heard(1)
            await ben.nothing()

    async def test_who_does_not_ask_for_receipts_gets_none(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann = Person(*await chat.open())
            chat.clients.append(ann)
            ann.user = "ann"
            await ann.connected("bot", user="ann")
            ann.say("ben", {"id": 1, "body": "hi"}, id=1)
            ann.say("cyd", {"id": 2, "body": "hi"}, id=2)
            await ann.expect(wire.puback(1), wire.puback(2))
            await ann.subscribed(("inbox/ann/receipt/#", 0))
            ann.say("ben", {"id": 3, "body": "hi"}, id=3)
            (receipt,) = await answers(ann, 3)
            assert receipt["type"] == "sent"


class TestRefused:
    LIMITS = Limits(max_message_size=100, max_packet_size=10_000)

    @pytest.mark.parametrize(
        ("topic", "payload", "retain", "reason", "id"),
        [
            ("inbox/cyd/chat/ann", b'{"id":"m"}', False, "not_friend", "m"),
            ("inbox/ben/chat/cyd", b'{"id":7}', False, "not_sender", 7),
            ("inbox/ben/chat/ann", b'{"id":"m","n":1}', False, "reserved_field", "m"),
            ("inbox/ben/chat/ann", b'{"id":"m","seq":0}', False, "bad_payload", "m"),
            ("inbox/ben/chat/ann", b'{"id":"m"}', True, "retain_refused", "m"),
            ("inbox/ben/chat/ann", b"x" * 101, False, "too_large", None),
            ("inbox/ben/sync/ann", b"{}", False, "bad_topic", None),
            ("inbox/ben/receipt/ann", b'{"type":"delivered","up_to":1}', False, "bad_receipt", None),
            ("elsewhere", b"{}", False, "forbidden", None),
        ],
    )
    async def test_each_refusal_is_acknowledged_and_names_its_reason(
        self, topic: str, payload: bytes, retain: bool, reason: str, id: object
    ) -> None:
        async with chatting(FRIENDS, limits=self.LIMITS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ann.send(wire.publish(topic, payload, qos=1, id=1, retain=retain))
            (receipt,) = await answers(ann, 1)
            assert (receipt["type"], receipt["reason"], receipt["id"]) == ("failed", reason, id)
            await ben.nothing()
            assert chat.store.attempts == 0
            assert len(chat.node.router.retained) == 0

    async def test_a_refused_id_is_not_consumed(self) -> None:
        async with chatting() as chat:
            ann = await chat.person("ann")
            ann.say("ben", {"id": "m", "body": "hi"}, id=1)
            (receipt,) = await answers(ann, 1)
            assert receipt["reason"] == "not_friend"
            chat.relation("ann", "ben", friends=True)
            await until(lambda: chat.friends.asked == 2)
            await ann.nothing()
            ann.say("ben", {"id": "m", "body": "hi"}, id=1)
            (receipt,) = await answers(ann, 1)
            assert receipt["type"] == "sent"

    @pytest.mark.parametrize("topic", ["inbox/ben/chat/ann", "devices/ben/x", "elsewhere"])
    async def test_a_will_may_not_go_where_its_owner_may_not_publish(self, topic: str) -> None:
        async with chatting(FRIENDS) as chat:
            client = await chat.dial()
            client.send(wire.connect("phone", user="ann", will=wire.Will(topic, b"bye")))
            assert await client.closed() == [wire.refused(5)]
            assert not chat.node.sessions.subscribers


class TestReceipts:
    async def test_delivered_only_after_the_acknowledgement_of_a_device(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            mids = []
            for id in (1, 2, 3):
                ann.say("ben", {"body": id}, id=id)
                (receipt,) = await answers(ann, id)
                mids.append(receipt["mid"])
            ids = [(await ben.publication()).id for _ in mids]
            ben.send(wire.puback(ids[1]))
            await ben.nothing()
            await ann.nothing()  # cumulative: the first one is open
            ben.send(wire.puback(ids[0]))
            receipt = await ann.publication()
            assert receipt.topic == "inbox/ann/receipt/ben"
            assert receipt.document == {"type": "delivered", "up_to": mids[1]}
            ben.send(wire.puback(ids[2]))
            assert (await ann.publication()).document["up_to"] == mids[2]

    async def test_a_device_at_qos_0_gives_none_and_at_qos_2_with_its_pubrec(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann = await chat.person("ann")
            ben = await chat.person("ben", qos=0)
            ann.say("ben", {"body": 1}, id=1)
            await answers(ann, 1)
            assert (await ben.publication()).qos == 0
            await ann.nothing()
            ben = await chat.person("ben", qos=2)
            ann.say("ben", {"body": 2}, id=2)
            (receipt,) = await answers(ann, 2)
            found = await ben.publication()
            assert (found.qos, found.document["body"]) == (2, 2)
            ben.send(wire.pubrec(found.id))
            assert (await ann.publication()).document == {"type": "delivered", "up_to": receipt["mid"]}

    async def test_read_is_acknowledged_when_it_is_committed_and_told_to_the_peer(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ann.say("ben", {"body": 1}, id=1)
            (receipt,) = await answers(ann, 1)
            await ben.heard(1)
            await ann.publication()  # delivered
            chat.store.break_down()
            attempts = chat.store.attempts
            for id in (1, 2):
                ben.send(wire.publish("inbox/ann/receipt/ben", self.reading(receipt["mid"]), qos=1, id=id))
            await chat.store.attempted(attempts + 2)
            await ben.nothing()
            await ann.nothing()
            chat.store.repair()
            await ben.expect(wire.puback(1), wire.puback(2))
            assert (await ann.publication()).document == {"type": "read", "up_to": receipt["mid"]}
            await ann.nothing()
            assert chat.node.inboxes.receipts.unacknowledged == 0  # type: ignore[union-attr]

    @staticmethod
    def reading(mid: int) -> bytes:
        return json.dumps({"type": "read", "up_to": mid}).encode()

    async def test_typing_is_passed_on_and_never_stored(self) -> None:
        async with chatting(FRIENDS) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ann.send(wire.publish("inbox/ben/typing/ann", b"{}", qos=1, id=1))
            await ann.expect(wire.puback(1))
            assert await ben.publication() == wire.Published("inbox/ben/typing/ann", b"{}")
            assert chat.store.attempts == 0

    async def test_my_other_devices_get_a_copy_and_this_one_does_not(self) -> None:
        async with chatting(FRIENDS) as chat:
            phone, tablet = await chat.person("ann", "phone"), await chat.person("ann", "tablet")
            phone.say("ben", {"id": "m", "body": "hi"}, id=1)
            (receipt,) = await answers(phone, 1)
            copy = await tablet.publication()
            assert copy.topic == "inbox/ann/sync/ann"
            assert (copy.document["to"], copy.document["device"], copy.document["mid"]) == (
                "ben",
                "phone",
                receipt["mid"],
            )
            assert copy.document["message"] == {"id": "m", "body": "hi"}
            await phone.nothing()


class TestSwitchedOff:
    """Each rule is a line of the profile; without the line it is not kept, and nothing else changes."""

    @staticmethod
    def without(name: str) -> dict[str, Any]:
        return {path: options for path, options in OURS.items() if not path.endswith(name)}

    async def test_without_ordering_seq_means_nothing(self) -> None:
        async with chatting(FRIENDS, plugins=self.without("Ordering")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            for seq in (5, 2):
                ann.say("ben", {"id": seq, "seq": seq, "body": seq}, id=seq)
                await answers(ann, seq)
            assert [one["body"] for one in await ben.heard(2)] == [5, 2]
            ann.say("ben", {"id": 5, "seq": 5, "body": "again"}, id=1)
            assert [one["type"] for one in await answers(ann, 1)][-1:] == ["sent"]
            await ben.nothing()  # an id is one message for ever: that is the store's

    async def test_without_authorisation_everybody_may_write(self) -> None:
        async with chatting(plugins=self.without("TopicAuthorisation")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ann.say("ben", {"body": "hi"}, id=1)
            assert [one["type"] for one in await answers(ann, 1)] == ["sent"]
            assert (await ben.heard(1))[0]["body"] == "hi"
            for id, topic in enumerate(
                ("inbox", "inbox/ben", "inbox/ben/chat", "inbox/ben/chat/ann/x", "inbox/ben/x/ann")
            ):
                ann.send(wire.publish(topic, b"{}", qos=1, id=10 + id))
                refusals = [one for one in await answers(ann, 10 + id) if one["type"] == "failed"]
                assert [one["reason"] for one in refusals] == ["bad_topic"]
            await ben.nothing()
