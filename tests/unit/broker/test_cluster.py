"""Several nodes in one process: real connectors, one store, and twins of user status and transfer that lose on command.

What the same promises are worth between real processes, on MariaDB and Redis, is in `tests/faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aldis.bridge.framed_transfer import TransferLimits
from aldis.bridge.memory_status import MemoryUserStatus, StatusBoard
from aldis.bridge.memory_transfer import MemoryTransfer, Wire
from aldis.broker.cluster import Links
from aldis.broker.core.whereabouts import NOWHERE
from tests import wire as packets
from tests.unit.broker.chat import Chat, Friends, Person, Shared, Store, chatting
from tests.unit.broker.lab import Plugins, until

LIMITS = TransferLimits(heartbeat=0.02, silence=0.2, peer_timeout=0.5)


class Nodes:
    """The nodes, and what connects them."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.wire, self.board = Wire(), StatusBoard()
        self.store, self.friends = Store(), Friends(*pairs)
        self.chats: list[Chat] = []

    def __getitem__(self, number: int) -> Chat:
        return self.chats[number]

    async def know_each_other(self) -> None:
        await until(lambda: all(self.transfer(n).connected for n in range(len(self.chats))))
        await until(lambda: all(len(self.transfer(n).peers) == len(self.chats) - 1 for n in range(len(self.chats))))
        await until(lambda: all(one.cluster is not None and one.cluster.sweep.rounds for one in self.chats))

    def transfer(self, number: int) -> MemoryTransfer:
        cluster = self.chats[number].cluster
        assert cluster is not None and isinstance(cluster.way.transfer, MemoryTransfer)
        return cluster.way.transfer

    async def sweep(self, number: int) -> None:
        """A whole round of the sweep at this node, now."""
        cluster = self.chats[number].cluster
        assert cluster is not None
        rounds = cluster.sweep.rounds
        cluster.sweep.soon()
        await until(lambda: cluster.sweep.rounds > rounds)


@asynccontextmanager
async def nodes(*pairs: tuple[str, str], count: int = 2, plugins: Plugins | None = None) -> AsyncIterator[Nodes]:
    made = Nodes(*pairs)
    async with AsyncExitStack() as stack:
        for name in "abcd"[:count]:
            way = Links(MemoryTransfer(name, made.wire, limits=LIMITS), MemoryUserStatus(name, made.board))
            shared = Shared(made.store, made.friends)
            made.chats.append(await stack.enter_async_context(chatting(shared=shared, way=way, plugins=plugins)))
        await made.know_each_other()
        yield made
        made.wire.mend()
        made.wire.copies = None


FRIENDS = ("ann", "ben")


async def message(person: Person) -> dict[str, Any]:
    """The next thing that comes, acknowledged."""
    return (await person.heard(1))[0]


class TestMessages:
    async def test_a_message_and_its_receipts_cross(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            ann.say("ben", {"id": "x", "body": "hi"}, id=1)
            sent = await message(ann)
            await ann.expect_acknowledged(1)
            got = await message(ben)
            assert (got["body"], got["mid"], got["n"]) == ("hi", sent["mid"], 1)
            assert await message(ann) == {"type": "delivered", "up_to": sent["mid"]}
            ben.send(packets.publish("inbox/ann/receipt/ben", b'{"type":"read","up_to":%d}' % sent["mid"], qos=1, id=9))
            assert await message(ann) == {"type": "read", "up_to": sent["mid"]}

    async def test_many_come_in_order_and_once(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            for number in range(1, 201):
                ann.say("ben", {"body": number}, id=number)
            got = await ben.heard(200)
            assert [one["body"] for one in got] == list(range(1, 201))
            assert [one["n"] for one in got] == list(range(1, 201))
            await ben.nothing()

    async def test_every_device_gets_it_wherever_it_is_and_the_senders_others_a_copy(self) -> None:
        async with nodes(FRIENDS, count=3) as made:
            bens = [await made[number].person("ben", f"ben{number}") for number in range(3)]
            phone, pad = await made[0].person("ann", "phone"), await made[2].person("ann", "pad")
            phone.say("ben", {"body": "hi"}, id=1)
            for ben in bens:
                assert (await message(ben))["body"] == "hi"
            copy = await pad.publication()
            assert copy.topic == "inbox/ann/sync/ann" and copy.document["message"] == {"body": "hi"}

    async def test_a_device_that_is_new_on_another_node_gets_copies_from_then_on(self) -> None:
        async with nodes(FRIENDS) as made:
            phone = await made[0].person("ann", "phone")
            pad = await made[1].person("ann", "pad")
            phone.say("ben", {"body": "hi"}, id=1)
            assert (await pad.publication()).topic == "inbox/ann/sync/ann"

    async def test_who_comes_while_something_is_committed_is_told_of_it(self) -> None:
        """Ann's node knows Ben nowhere; he comes between the claim's reading of the head and our hearing of it."""
        async with nodes(FRIENDS) as made:
            ann = await made[0].person("ann")
            ann.say("ben", {"body": 1}, id=1)
            await ann.expect_acknowledged(1)
            made.wire.hold()
            ben = await made[1].person("ben")
            assert (await message(ben))["body"] == 1
            ann.say("ben", {"body": 2}, id=2)
            await ann.expect_acknowledged(2)
            await ben.nothing()
            made.wire.release()
            assert (await message(ben))["body"] == 2

    async def test_typing_and_devices_topics_cross(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            ann.send(packets.publish("inbox/ben/typing/ann", b"{}"))
            assert (await ben.publication()).topic == "inbox/ben/typing/ann"
            other = await made[0].client("sensor", user="ben")
            await ben.subscribed(("devices/ben/#", 1))
            other.send(packets.publish("devices/ben/t", b"21", qos=1, id=1))
            await other.expect(packets.puback(1))
            got = await ben.publication()
            assert (got.topic, got.payload, got.qos) == ("devices/ben/t", b"21", 1)

    async def test_a_will_crosses(self) -> None:
        async with nodes(FRIENDS) as made:
            watcher = await made[1].client("watch", user="ben")
            await watcher.subscribed(("devices/ben/#", 1))
            sensor = await made[0].client("sensor", user="ben", will=packets.Will("devices/ben/gone", b"bye"))
            sensor.close()
            assert (await watcher.publication()).topic == "devices/ben/gone"

    async def test_nodes_without_the_user_are_left_alone(self) -> None:
        async with nodes(FRIENDS, count=3) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            ann.say("ben", {"body": 0}, id=1)
            await message(ben)
            frames: list[str] = []
            made.wire.copies = lambda target, _: frames.append(target) or 1  # type: ignore[func-returns-value]
            for number in range(2, 12):
                ann.say("ben", {"body": number}, id=number)
            await ben.heard(10)
            assert "b" in frames and "c" not in frames


class TestTakingOver:
    async def test_the_old_connection_ends_and_the_new_one_goes_on(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, old = await made[0].person("ann"), await made[0].person("ben")
            ann.say("ben", {"body": 1}, id=1)
            assert (await message(old))["body"] == 1
            new = await made[1].person("ben")
            await old.closed()
            ann.say("ben", {"body": 2}, id=2)
            got = await message(new)
            while got["body"] == 1:  # its acknowledgement may have been under way
                got = await message(new)
            assert got["body"] == 2

    async def test_an_owner_that_was_not_told_is_fenced_by_the_store(self) -> None:
        """Transfer and user status are gone: the epoch alone decides."""
        async with nodes(FRIENDS) as made:
            old = await made[0].person("ben")
            made.wire.cut()
            made.board.cut()
            new = await made[1].person("ben")
            await old.closed()
            await new.nothing()

    async def test_a_node_that_cannot_be_certain_does_not_deliver(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[0].person("ben")
            made.wire.cut()
            made.store.positions_fail = True
            await asyncio.sleep(0.8)
            ann.say("ben", {"body": 1}, id=1)
            await ann.expect_acknowledged(1)
            await ben.nothing()
            made.store.positions_fail = False
            assert (await message(ben))["body"] == 1

    async def test_a_persistent_session_follows_its_device(self) -> None:
        async with nodes(FRIENDS) as made:
            sensor = await made[0].client("sensor", user="ben", clean=False)
            await sensor.subscribed(("devices/ben/#", 1))
            sensor.send(packets.DISCONNECT)
            await sensor.closed()
            other = await made[1].client("other", user="ben")
            for number in range(3):
                other.send(packets.publish("devices/ben/x", b"%d" % number, qos=1, id=number + 1))
                await other.expect(packets.puback(number + 1))
            await until(lambda: len(made[0].node.sessions.subscribers["ben", "sensor"].session.queue or ()) == 3)
            again = await made[1].dial()
            await again.connected("sensor", user="ben", clean=False, answer=packets.RESUMED)
            assert [(await again.publication()).payload for _ in range(3)] == [b"0", b"1", b"2"]
            assert ("ben", "sensor") not in made[0].node.sessions.subscribers

    async def test_a_clean_connection_ends_the_session_that_waits_elsewhere(self) -> None:
        async with nodes(FRIENDS) as made:
            sensor = await made[0].client("sensor", user="ben", clean=False)
            sensor.send(packets.DISCONNECT)
            await sensor.closed()
            await made[1].client("sensor", user="ben")
            await until(lambda: ("ben", "sensor") not in made[0].node.sessions.subscribers)

    async def test_a_session_that_does_not_come_in_time_begins_anew(self) -> None:
        async with nodes(FRIENDS) as made:
            sensor = await made[0].client("sensor", user="ben", clean=False)
            sensor.send(packets.DISCONNECT)
            await sensor.closed()
            await until(lambda: not made.board.is_present("ben"))
            made.wire.copies = lambda target, _: 0 if target in "ab" else 1
            again = await made[1].dial()
            await again.connected("sensor", user="ben", clean=False)

    async def test_two_who_fight_for_a_device_never_share_it(self) -> None:
        async with nodes(FRIENDS) as made:
            ann = await made[0].person("ann")
            seen: list[int] = []
            for number in range(1, 13):
                ben = await made[number % 2].person("ben")
                ann.say("ben", {"body": number}, id=number)
                while (got := (await message(ben)))["body"] != number:
                    seen.append(got["n"])
                seen.append(got["n"])
            assert set(seen) == set(range(1, 13))
            attached = [one for chat in made.chats for one in chat.node.inboxes.attached()]  # type: ignore[union-attr]
            assert sorted(device.session.user for device in attached) == ["ann", "ben"]


class TestLosses:
    async def test_lost_wake_ups_are_noticed_by_their_numbers(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            ann.say("ben", {"body": 1}, id=1)
            await message(ben)
            made.wire.copies = lambda target, _: 0 if target == "b" else 1
            ann.say("ben", {"body": 2}, id=2)
            assert (await message(ben))["body"] == 2  # the heartbeat tells of the hole

    async def test_a_receipt_that_is_lost_without_a_trace_is_found_by_the_next_sweep(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made[1].cluster._elsewhere.whereabouts.known["ann"] = NOWHERE  # type: ignore[union-attr]
            ann.say("ben", {"id": 1, "body": 1}, id=1)
            await message(ben)
            sent = await message(ann)
            await ann.expect_acknowledged(1)
            await until(lambda: made.store.batches[-1].delivered != [])
            await ann.nothing()
            await made.sweep(0)
            assert await message(ann) == {"type": "delivered", "up_to": sent["mid"]}

    async def test_whoever_comes_back_is_known_to_be_there_whatever_was_believed(self) -> None:
        """The node has never heard that it had lost the device, and the others believe that it has."""
        async with nodes(FRIENDS) as made:
            ann = await made[0].person("ann")
            made[1].cluster._elsewhere.whereabouts.known["ann"] = NOWHERE  # type: ignore[union-attr]
            ann = await made[0].person("ann")
            ben = await made[1].person("ben")
            ben.say("ann", {"body": 1}, id=1)
            assert (await message(ann))["body"] == 1

    async def test_without_a_link_the_sweep_finds_it(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made.wire.cut()
            ann.say("ben", {"id": 1, "body": 1}, id=1)
            sent = await message(ann)
            assert (await message(ben))["body"] == 1
            await ann.expect_acknowledged(1)
            assert await message(ann) == {"type": "delivered", "up_to": sent["mid"]}
            made.wire.mend()
            await made.know_each_other()
            ann.say("ben", {"body": 2}, id=2)
            assert (await message(ben))["body"] == 2

    async def test_receipts_found_by_the_sweep_are_told_once(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made.wire.cut()
            ann.say("ben", {"id": 1, "body": 1}, id=1)
            await message(ben)
            await ann.heard(1)
            await ann.expect_acknowledged(1)
            assert (await message(ann))["type"] == "delivered"
            await made.sweep(0)
            await made.sweep(0)
            await ann.nothing()

    async def test_doubled_frames_change_nothing(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made.wire.copies = lambda *_: 2
            for number in range(1, 21):
                ann.say("ben", {"body": number}, id=number)
            assert [one["body"] for one in await ben.heard(20)] == list(range(1, 21))
            await ben.nothing()

    async def test_a_user_status_that_has_forgotten_everything_is_told_again(self) -> None:
        async with nodes(FRIENDS) as made:
            ann, ben = await made[0].person("ann"), await made[1].person("ben")
            made.board.flush()
            await until(lambda: made.board.is_present("ann") and made.board.is_present("ben"))
            ann.say("ben", {"body": 1}, id=1)
            assert (await message(ben))["body"] == 1

    async def test_who_connects_while_the_user_status_is_away_is_registered_later(self) -> None:
        async with nodes(FRIENDS) as made:
            made.board.cut()
            ben = await made[1].person("ben")
            assert not made.board.is_present("ben")
            made.board.mend()
            await until(lambda: made.board.is_present("ben"))
            ann = await made[0].person("ann")
            ann.say("ben", {"body": 1}, id=1)
            assert (await message(ben))["body"] == 1

    async def test_a_woken_node_that_was_given_up_does_not_take_its_devices_back(self) -> None:
        async with nodes(FRIENDS) as made:
            old = await made[0].person("ben")
            made.wire.cut("a")
            made.board.lapse("a")
            new = await made[1].person("ben")
            made.wire.mend()
            await old.closed()
            await until(lambda: len(made.transfer(0).peers) == 1)
            ann = await made[0].person("ann")
            ann.say("ben", {"body": 1}, id=1)
            assert (await message(new))["body"] == 1
