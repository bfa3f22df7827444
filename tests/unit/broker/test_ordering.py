"""Promises 2 and 3 at the connector: one id is one message, and `seq` decides the order (article 8.2)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from aldis.broker.ports import Batch, NewMessage
from aldis.config.settings import Limits, Timeouts
from aldis.plugins.ordering import Ordering
from tests import wire
from tests.unit.broker.chat import OURS, QUICK, Chat, Person, chatting
from tests.unit.broker.lab import PLUGINS, until


def plugin(chat: Chat) -> Ordering:
    found: Ordering = chat.plugin("Ordering")
    return found


async def bodies(person: Person, count: int) -> list[Any]:
    return [document["body"] for document in await person.heard(count)]


def sent(document: dict[str, Any], id: object, seq: int | None = None) -> tuple[int, int]:
    """Checks a `sent` receipt and gives (mid, ts)."""
    assert (document["type"], document["id"], document.get("seq")) == ("sent", id, seq)
    return document["mid"], document["ts"]


def failed(document: dict[str, Any]) -> tuple[Any, Any, Any]:
    assert document["type"] == "failed"
    return document["id"], document.get("seq"), document["reason"]


class TestIds:
    async def test_a_repeat_while_the_first_is_being_committed_shares_its_outcome(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            chat.store.gate.clear()
            for packet_id in (1, 2, 3):
                ann.say("ben", {"id": "m", "body": "once"}, id=packet_id)
            assert await ann.told() == []  # PUBACK = committed
            chat.store.gate.set()
            found = await gather(ann, 6)
            assert [one for one in found if isinstance(one, int)] == [1, 2, 3]
            assert len({sent(one, "m") for one in found if isinstance(one, dict)}) == 1
            assert await bodies(ben, 1) == ["once"]
            await ben.nothing()
            assert len(chat.store.batches) == 1

    async def test_a_repeat_after_the_commit_gets_the_first_result(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            results = []
            for packet_id in (1, 2):
                ann.say("ben", {"id": 7, "body": packet_id}, id=packet_id)
                receipt, acknowledged = await gather(ann, 2)
                assert acknowledged == packet_id
                results.append(sent(receipt, 7))
            assert results[0] == results[1]
            assert await bodies(ben, 1) == [1]
            await ben.nothing()

    async def test_a_repeat_that_nobody_remembers_is_found_in_the_store(self) -> None:
        plugins = {**OURS, "aldis.plugins.ordering.Ordering": {"recent_ids": 1}}
        async with chatting(("ann", "ben"), plugins=plugins) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            results = []
            for packet_id, id in ((1, "a"), (2, "b"), (3, "a")):
                ann.say("ben", {"id": id, "body": packet_id}, id=packet_id)
                receipt, _ = await gather(ann, 2)
                results.append(sent(receipt, id))
            assert results[0] == results[2] != results[1]
            assert await bodies(ben, 2) == [1, 2]
            await ben.nothing()

    async def test_a_repeat_on_a_new_connection(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ben = await chat.person("ben")
            results = []
            for _ in range(2):
                ann = await chat.person("ann")
                ann.say("ben", {"id": "m", "body": "once"}, id=1, dup=bool(results))
                receipt, _ = await gather(ann, 2)
                results.append(sent(receipt, "m"))
                ann.send(wire.DISCONNECT)
                await ann.closed()
                await until(lambda: not plugin(chat)._streams)  # nothing is kept for who is away
            assert results[0] == results[1]
            assert await bodies(ben, 1) == ["once"]
            await ben.nothing()

    async def test_a_repeat_on_a_new_connection_while_the_store_is_down(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ben = await chat.person("ben")
            ann = await chat.person("ann")
            chat.store.break_down()
            ann.say("ben", {"id": "m", "body": "once"}, id=1)
            await chat.store.attempted(2)
            for _ in range(3):
                again = await connected(chat, "ann")
                again.say("ben", {"id": "m", "body": "once"}, id=1, dup=True)
                await again.nothing()
            assert chat.writer.pending == 1
            chat.store.repair()
            assert await again.packet() == wire.puback(1)
            assert await bodies(ben, 1) == ["once"]

    async def test_the_ids_of_two_devices_are_their_own(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ben = await chat.person("ben")
            for device in ("phone", "tablet"):
                (await connected(chat, "ann", device)).say("ben", {"id": "m", "body": device}, id=1)
            assert sorted(await bodies(ben, 2)) == ["phone", "tablet"]


class TestSeq:
    async def test_a_gap_holds_back_and_what_fills_it_releases(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            for packet_id, seq in ((1, 2), (2, 3), (3, 5)):
                ann.say("ben", {"seq": seq, "body": seq}, id=packet_id)
            assert await ann.told() == []
            ann.say("ben", {"seq": 1, "body": 1}, id=4)
            found = await gather(ann, 5)
            assert [one["seq"] for one in found if isinstance(one, dict)] == [1, 2, 3]
            assert [one for one in found if isinstance(one, int)] == [1, 2]  # [MQTT-4.6.0-2]: 4 waits for 3
            assert await bodies(ben, 3) == [1, 2, 3]
            ann.say("ben", {"seq": 4, "body": 4}, id=5)
            found = await gather(ann, 5)
            assert [one for one in found if isinstance(one, int)] == [3, 4, 5]
            assert await bodies(ben, 2) == [4, 5]
            await ben.nothing()

    async def test_each_recipient_has_its_own_counter(self) -> None:
        async with chatting(("ann", "ben"), ("ann", "cyd")) as chat:
            ann, ben, cyd = await chat.person("ann"), await chat.person("ben"), await chat.person("cyd")
            ann.say("ben", {"seq": 2, "body": "b2"}, id=1)
            ann.say("cyd", {"seq": 1, "body": "c1"}, id=2)
            assert await bodies(cyd, 1) == ["c1"]
            ann.say("ben", {"seq": 1, "body": "b1"}, id=3)
            assert await bodies(ben, 2) == ["b1", "b2"]

    async def test_a_gap_that_outlives_its_time_fails_and_can_be_sent_again(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            for packet_id, seq in ((1, 3), (2, 2)):
                ann.say("ben", {"id": f"m{seq}", "seq": seq, "body": seq}, id=packet_id)
            found = await gather(ann, 4)
            assert [failed(one) for one in found if isinstance(one, dict)] == [("m2", 2, "gap"), ("m3", 3, "gap")]
            assert [one for one in found if isinstance(one, int)] == [1, 2]
            assert not plugin(chat)._holding
            for packet_id, seq in ((1, 1), (2, 2), (3, 3)):  # neither id nor number was consumed
                ann.say("ben", {"id": f"m{seq}", "seq": seq, "body": seq}, id=packet_id)
            assert await bodies(ben, 3) == [1, 2, 3]

    async def test_more_than_the_limit_is_not_held(self) -> None:
        limits = Limits(max_hold_back=2)
        async with chatting(("ann", "ben"), limits=limits, timeouts=QUICK.model_copy(update={"hold_back": 60})) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ann.say("ben", {"seq": 1, "body": 1}, id=1)
            await gather(ann, 2)
            for packet_id, seq in ((2, 3), (3, 4), (4, 5)):
                ann.say("ben", {"id": seq, "seq": seq, "body": seq}, id=packet_id)
            (receipt,) = await gather(ann, 1)
            assert failed(receipt) == (5, 5, "hold_back_full")
            ann.say("ben", {"seq": 2, "body": 2}, id=5)
            await gather(ann, 3 + 4)
            ann.say("ben", {"id": 5, "seq": 5, "body": 5}, id=6)
            assert await bodies(ben, 5) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("stage", ["held", "being committed", "committed"])
    async def test_another_message_under_the_same_number_is_stale(self, stage: str) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            if stage == "being committed":
                chat.store.gate.clear()
            ann.say("ben", {"id": "first", "seq": 2 if stage == "held" else 1, "body": "first"}, id=1)
            if stage == "committed":
                await gather(ann, 2)
            else:
                assert await ann.told() == []
            ann.say("ben", {"id": "other", "seq": 2 if stage == "held" else 1, "body": "other"}, id=2)
            (receipt,) = await gather(ann, 1)
            assert failed(receipt)[::2] == ("other", "stale_seq")
            chat.store.gate.set()
            if stage == "held":
                ann.say("ben", {"seq": 1, "body": "zero"}, id=3)
                assert await bodies(ben, 1) == ["zero"]
            assert await bodies(ben, 1) == ["first"]
            await ben.nothing()

    @pytest.mark.parametrize("id", [None, "m"])
    async def test_a_repeat_of_the_same_message_is_acknowledged_and_dropped(self, id: str | None) -> None:
        document = {"seq": 1, "body": "once"} | ({"id": id} if id else {})
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            chat.store.gate.clear()
            ann.say("ben", document, id=1)
            ann.say("ben", document, id=2)
            assert await ann.told() == []  # not before the first one is durable
            chat.store.gate.set()
            found = await gather(ann, 4)
            assert [one for one in found if isinstance(one, int)] == [1, 2]
            ann.say("ben", document, id=3)
            found = [one for one in await ann.told() if isinstance(one, int)]
            assert found == [3]
            assert await bodies(ben, 1) == ["once"]
            await ben.nothing()

    @pytest.mark.parametrize("qos", [1, 2])
    async def test_a_repeat_that_another_node_has_stored_meanwhile_is_acknowledged_and_dropped(self, qos: int) -> None:
        """The store alone knows, and no longer under which mid: no `sent` receipt. The stream goes on behind it."""
        async with chatting(("ann", "ben")) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            ann.say("ben", {"seq": 1, "body": 1}, id=1)
            await gather(ann, 2)
            elsewhere = NewMessage("ann", "phone", "ben", b'{"seq":2,"body":2}', 1, seq=2)
            await chat.store.commit(Batch([elsewhere]))
            ann.say("ben", {"seq": 2, "body": 2}, id=2, qos=qos)
            assert await gather(ann, 1) == [2]
            assert await ann.told() == []
            ann.say("ben", {"seq": 3, "body": 3}, id=3)
            receipt, acknowledged = await gather(ann, 2)
            assert (sent(receipt, None, 3)[0], acknowledged) == (3, 3)
            assert await bodies(ben, 3) == [1, 2, 3]
            await ben.nothing()

    async def test_a_repeat_by_seq_whose_id_only_the_store_knows_gets_the_first_result(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann = await chat.person("ann")
            ann.say("ben", {"id": "m", "seq": 1, "body": "once"}, id=1)
            receipt, _ = await gather(ann, 2)
            again = await chat.person("ann")
            chat.store.reads_fail = True
            again.say("ben", {"id": "m", "seq": 1, "body": "once"}, id=1, dup=True)
            await again.nothing()
            chat.store.reads_fail = False
            repeated, acknowledged = await gather(again, 2)
            assert acknowledged == 1
            assert sent(repeated, "m", 1) == sent(receipt, "m", 1)


class TestConnections:
    async def test_what_is_held_when_the_connection_ends_is_dropped_unacknowledged(self) -> None:
        timeouts = QUICK.model_copy(update={"hold_back": 60})
        async with chatting(("ann", "ben"), timeouts=timeouts) as chat:
            ben, ann = await chat.person("ben"), await chat.person("ann")
            for packet_id, seq in ((1, 2), (2, 3)):
                ann.say("ben", {"id": seq, "seq": seq, "body": seq}, id=packet_id)
            assert await ann.told() == []
            ann.send(wire.DISCONNECT)
            assert await ann.closed() == []
            await until(lambda: not plugin(chat)._streams and not plugin(chat)._holding)
            ann = await chat.person("ann")
            for packet_id, seq in ((1, 2), (2, 3), (3, 1)):
                ann.say("ben", {"id": seq, "seq": seq, "body": seq}, id=packet_id, dup=True)
            assert await bodies(ben, 3) == [1, 2, 3]
            await ben.nothing()

    async def test_the_counter_goes_on_after_a_reconnect(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ben = await chat.person("ben")
            for start in (1, 3, 5):
                ann = await connected(chat, "ann")
                for seq in (start, start + 1):
                    ann.say("ben", {"seq": seq, "body": seq}, id=seq)
                await ann.expect(wire.puback(start), wire.puback(start + 1))
                ann.close()
            assert await bodies(ben, 6) == [1, 2, 3, 4, 5, 6]

    async def test_reading_the_last_number_waits_for_the_store(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ben, ann = await chat.person("ben"), await chat.person("ann")
            chat.store.reads_fail = True
            for seq in (2, 1, 3):
                ann.say("ben", {"seq": seq, "body": seq}, id=seq)
            ann.say("ben", {"body": "without"}, id=4)
            assert await bodies(ben, 1) == ["without"]  # what has no number waits for nobody
            assert [one for one in await ann.told() if isinstance(one, int)] == []
            chat.store.reads_fail = False
            assert await bodies(ben, 3) == [1, 2, 3]
            found = []
            while 4 not in found:
                found += await gather(ann, 1)
            assert [one for one in found if isinstance(one, int)] == [2, 1, 3, 4]

    async def test_who_leaves_while_the_store_is_asked_leaves_nothing_behind(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ann = await chat.person("ann")
            chat.store.reads_fail = True
            ann.say("ben", {"seq": 1, "body": 1}, id=1)
            assert await ann.told() == []
            ann.close()
            await until(lambda: not plugin(chat)._streams)
            chat.store.reads_fail = False
            await asyncio.sleep(0.05)
            assert chat.store.batches == []

    async def test_qos_2_and_qos_0_obey_the_same_rules(self) -> None:
        async with chatting(("ann", "ben")) as chat:
            ben, ann = await chat.person("ben"), await chat.person("ann")
            ann.say("ben", {"seq": 2, "body": 2}, id=9, qos=2)
            ann.say("ben", {"seq": 3, "body": 3}, id=0, qos=0)
            assert await ann.told() == []
            ann.say("ben", {"seq": 1, "body": 1}, id=1)
            assert await bodies(ben, 3) == [1, 2, 3]
            found = await gather(ann, 5)
            assert [one for one in found if isinstance(one, int)] == [9, 1]

    async def test_a_decision_that_comes_after_the_end_of_the_connection_holds_nothing(self) -> None:
        """With a third party's slow topic plugin: the client sends it again, so nobody waits for its number."""
        rules = {f"{PLUGINS}.TopicRules": {"slow": ["inbox/ben/chat/ann"], "seconds": 0.1}}
        async with chatting(("ann", "ben"), plugins={**OURS, **rules}) as chat:
            ann = await connected(chat, "ann")
            ann.say("ben", {"seq": 2, "body": 2}, id=1)
            await until(lambda: any(action.value == "publish" for _, _, action in chat.plugin("TopicRules").asked))
            await connected(chat, "ann")  # takes over
            await asyncio.sleep(0.15)
            assert not plugin(chat)._streams and not plugin(chat)._holding
            assert chat.store.batches == []


class TestBounds:
    async def test_a_client_with_a_gap_is_read_no_further_than_its_limit(self) -> None:
        limits = Limits(max_unacknowledged=4, max_hold_back=100)
        timeouts = Timeouts(hold_back=60, commit_retry=0.02)
        async with chatting(("ann", "ben"), limits=limits, timeouts=timeouts) as chat:
            ann = await chat.person("ann")
            for seq in range(2, 60):
                ann.say("ben", {"seq": seq, "body": "x" * 10_000}, id=seq)
            (connection,) = chat.node.connections
            await until(lambda: len(connection.acks) >= 4)
            await asyncio.sleep(0.05)
            assert len(connection.acks) < 40  # one read of the socket may bring more than the limit, but no second one

    async def test_many_at_once_before_the_store_has_told_the_last_number_are_no_disorder(self) -> None:
        """One read of the socket brings more than may be unacknowledged, and the store takes its time."""
        async with chatting(("ann", "ben"), limits=Limits(max_unacknowledged=4, max_hold_back=2)) as chat:
            ann, ben = await chat.person("ann"), await chat.person("ben")
            chat.store.reads_fail = True
            said = [(seq, json.dumps({"seq": seq, "body": seq}).encode()) for seq in range(1, 31)]
            ann.send(*(wire.publish("inbox/ben/chat/ann", payload, qos=1, id=seq) for seq, payload in said))
            (connection,) = (one for one in chat.node.connections if one.session.user == "ann")
            await until(lambda: len(connection.acks) == 30)
            chat.store.reads_fail = False
            assert await bodies(ben, 30) == list(range(1, 31))


async def gather(person: Person, count: int) -> list[Any]:
    """The next `count` things of `Person.told`, as they come."""
    found: list[Any] = []
    while len(found) < count:
        packet = await person.packet()
        if wire.is_publish(packet):
            found.append(wire.published(packet).document)
        else:
            assert packet[0] in (0x40, 0x50), packet
            found.append(int.from_bytes(packet[2:], "big"))
    return found


async def connected(chat: Chat, user: str, device: str = "phone") -> Person:
    """Connected, and subscribed to nothing."""
    person = Person(*await chat.open())
    chat.clients.append(person)
    person.user = user
    await person.connected(device, user=user)
    return person
