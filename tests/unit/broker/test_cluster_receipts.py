"""Receipts that come from several nodes and from the store, in any order: on one connection they only rise, and none is
forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

from aldis.broker.cluster_ports import Passed
from aldis.broker.core.envelope import render_delivered, render_read
from aldis.broker.core.whereabouts import NOWHERE
from aldis.broker.holdings import Lost
from aldis.broker.ports import Batch, Delivered, ReceiptState, StoreUnavailable
from tests import wire as packets
from tests.unit.broker.chat import Friends, Person, Shared, Store, chatting
from tests.unit.broker.lab import until
from tests.unit.broker.test_cluster import FRIENDS, Nodes, message, nodes


def tell(made: Nodes, payload: bytes) -> None:
    """Node 1 tells node 0 what Ben has done with Ann's messages."""
    made.transfer(1).send("a", Passed("inbox/ann/receipt/ben", payload))


async def said_and_taken(ann: Person, ben: Person) -> dict[str, Any]:
    """The receipt of a message that Ben has and Ann knows him to have."""
    ann.say("ben", {"id": 1, "body": 1}, id=1)
    await message(ben)
    sent = await message(ann)
    await ann.expect_acknowledged(1)
    assert await message(ann) == {"type": "delivered", "up_to": sent["mid"]}
    return sent


async def test_a_receipt_that_comes_late_is_not_told() -> None:
    async with nodes(FRIENDS) as made:
        ann = await made[0].person("ann")
        for payload in (render_delivered(7), render_delivered(5), render_read(4), render_delivered(7), render_read(5)):
            tell(made, payload)
        assert await ann.heard(3) == [
            {"type": "delivered", "up_to": 7},
            {"type": "read", "up_to": 4},
            {"type": "read", "up_to": 5},
        ]
        await ann.nothing()


async def test_what_was_read_from_the_store_does_not_fall_behind_what_was_told() -> None:
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        sent = await said_and_taken(ann, ben)
        tell(made, render_delivered(sent["mid"] + 10))
        assert await message(ann) == {"type": "delivered", "up_to": sent["mid"] + 10}
        await made.sweep(0)
        await ann.nothing()


async def test_who_comes_back_is_told_again_and_what_was_told_before_is_forgotten_with_the_last_connection() -> None:
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        sent = await said_and_taken(ann, ben)
        pad = await made[0].person("ann", "pad")
        assert await message(pad) == {"type": "delivered", "up_to": sent["mid"]}
        inboxes = made[0].node.inboxes
        assert inboxes is not None
        receipts = inboxes.receipts
        assert list(receipts._told) == ["ann"]
        ann.close()
        pad.close()
        await until(lambda: not receipts._told)


async def test_who_is_gone_before_receipts_were_read_leaves_nothing_behind() -> None:
    async with chatting(FRIENDS) as chat:
        ann, ben = await chat.person("ann", clean=False), await chat.person("ben")
        await said_and_taken(ann, ben)
        inboxes = chat.node.inboxes
        assert inboxes is not None
        ann.close()
        await until(lambda: not inboxes.receipts._told.get("ann"))
        again = await chat.dial()
        again.send(packets.connect("phone", user="ann", clean=False), packets.DISCONNECT)
        await again.closed()
        await asyncio.sleep(1.0)  # whatever was spawned has had its turn
        assert "ann" not in inboxes.receipts._told


async def test_who_is_gone_while_a_commit_stands_still_is_not_kept_for_its_end() -> None:
    """A client that comes again and again during an outage would pile up."""
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        await said_and_taken(ann, ben)
        inboxes = made[0].node.inboxes
        assert inboxes is not None
        made.store.gate.clear()
        ann.say("ben", {"id": 2, "body": 2}, id=2)
        await made.store.attempted(made.store.attempts + 1)
        (phone,) = [one for one in made[0].node.connections if one.session is not None]
        await inboxes.receipts.send_states(phone, "ann")
        assert inboxes.receipts._later == {phone}
        ann.close()
        await until(lambda: not inboxes.receipts._later)


class Slow(Store):
    """Its receipts are read when it is told so; until then it refuses, or everybody who asks waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.refusals = 0
        self.gates: list[asyncio.Event] = []

    async def receipts_for(self, peer: str, *, limit: int) -> list[ReceiptState]:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("not now")
        states = await super().receipts_for(peer, limit=limit)
        if self.slow:
            self.gates.append(asyncio.Event())
            await self.gates[-1].wait()
        return states


async def test_two_devices_subscribe_and_a_receipt_rises_between_them() -> None:
    """The second is ready first; then the receipt rises; then the first is ready, with what it has read before."""
    store = Slow()
    async with chatting(FRIENDS, shared=Shared(store, Friends(FRIENDS))) as chat:
        ann, ben = await chat.person("ann"), await chat.person("ben")
        first = await said_and_taken(ann, ben)
        store.slow = True
        pad = await chat.person("ann", "pad")
        await until(lambda: len(store.gates) == 1)
        watch = await chat.person("ann", "watch")
        await until(lambda: len(store.gates) == 2)
        store.gates[1].set()
        assert await message(watch) == {"type": "delivered", "up_to": first["mid"]}
        ann.say("ben", {"id": 2, "body": 2}, id=2)
        await message(ben)
        second = await message(ann)
        await ann.expect_acknowledged(2)
        assert await message(ann) == {"type": "delivered", "up_to": second["mid"]}
        store.gates[0].set()
        heard = [one["up_to"] for one in await pad.told() if one.get("type") == "delivered"]
        assert heard == [second["mid"]], "told live, and not again what was read before"


async def test_receipts_are_told_once_the_store_is_back() -> None:
    store = Slow()
    async with chatting(FRIENDS, shared=Shared(store, Friends(FRIENDS))) as chat:
        ann, ben = await chat.person("ann"), await chat.person("ben")
        sent = await said_and_taken(ann, ben)
        store.refusals = 3
        pad = await chat.person("ann", "pad")
        assert await message(pad) == {"type": "delivered", "up_to": sent["mid"]}
        assert store.refusals == 0


async def test_who_was_asked_for_while_the_user_status_did_not_know_its_node_is_found_again() -> None:
    """A node is thawed after its lease; before it has told again whom it holds, another one asks, and remembers that
    Ben is nowhere. No sweep is due for half a minute."""
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        asking, holding = made[0].cluster, made[1].cluster
        assert asking is not None and holding is not None
        restore, gate = holding.holdings.restore, asyncio.Event()

        async def later() -> list[Lost]:
            await gate.wait()
            return await restore()

        holding.holdings.restore = later  # type: ignore[method-assign]
        made.board.flush()
        known = asking._elsewhere.whereabouts
        known.missed()
        ann.say("ben", {"id": 1, "body": 1}, id=1)
        await until(lambda: known.known.get("ben") is NOWHERE)
        gate.set()
        assert (await message(ben))["body"] == 1
        await until(lambda: known.known.get("ben") == frozenset("b"))
        ann.say("ben", {"id": 2, "body": 2}, id=2)
        assert (await message(ben))["body"] == 2


async def test_who_does_not_read_for_a_while_is_told_afterwards() -> None:
    """QoS 0 goes past a full buffer, but a receipt is state."""
    async with chatting(FRIENDS) as chat:
        ann, ben = await chat.person("ann"), await chat.person("ben")
        pad = await chat.person("ann", "pad")
        (slow,) = [one for one in chat.node.connections if one.session is not None and one.session.device == "pad"]
        slow.pause_writing()
        sent = await said_and_taken(ann, ben)
        slow.resume_writing()
        found: list[Any] = []
        while not any(one.get("type") == "delivered" for one in found):
            found += await pad.heard(1)
        assert found[-1] == {"type": "delivered", "up_to": sent["mid"]}
        assert not chat.node.inboxes.receipts._behind  # type: ignore[union-attr]


async def test_what_is_told_while_nobody_can_say_where_users_are_goes_everywhere() -> None:
    """The link between the nodes is up, so no hole would tell the other one to look; no sweep is due."""
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        await said_and_taken(ann, ben)
        asking = made[1].cluster
        assert asking is not None
        made.board.cut()
        asking._elsewhere.whereabouts.missed()
        ben.send(packets.publish("inbox/ann/receipt/ben", b'{"type":"read","up_to":1}', qos=1, id=9))
        assert await message(ann) == {"type": "read", "up_to": 1}
        assert asking._elsewhere.unaddressed == 1


async def test_sent_comes_first_even_when_others_know_of_the_commit_earlier() -> None:
    """The commit has taken effect, its answer has not come; Ben has the message from the store already."""
    async with nodes(FRIENDS) as made:
        ann = await made[0].person("ann")
        made.store.gate.clear()
        ann.say("ben", {"id": 1, "body": 1}, id=1)
        await made.store.attempted(1)
        tell(made, render_delivered(1))
        tell(made, render_read(1))
        await made.transfer(1).settled(1.0)
        await ann.nothing()
        made.store.gate.set()
        assert [one["type"] for one in await ann.heard(1)] == ["sent"]
        await ann.expect_acknowledged(1)
        assert await ann.heard(2) == [{"type": "delivered", "up_to": 1}, {"type": "read", "up_to": 1}]


async def test_sent_comes_first_even_when_the_receipt_is_committed_on_the_same_node() -> None:
    """As with a journal: another node has stored what this one has appended, and the answer to the append is late."""
    async with nodes(FRIENDS) as made:
        ann = await made[0].person("ann")
        receipts = made[0].node.inboxes.receipts
        waiting = {("ann", "ben")}
        receipts.committing = lambda peer, reader: (peer, reader) in waiting
        made[0].writer.delivered(Delivered("ben", "ann", 1))
        await made[0].writer.flush()
        await ann.nothing()
        waiting.clear()
        receipts.answered()
        assert await ann.heard(1) == [{"type": "delivered", "up_to": 1}]


async def test_who_subscribes_while_a_commit_is_under_way_is_told_everything_after_it() -> None:
    """What her other device was told already counts for this one, too."""
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        sent = await said_and_taken(ann, ben)
        made.store.gate.clear()
        ann.say("ben", {"id": 2, "body": 2}, id=2)
        await made.store.attempted(made.store.attempts + 1)
        pad = await made[0].client("pad", user="ann")
        await pad.subscribed(("inbox/ann/receipt/+", 0))  # of the inbox itself it wants nothing, so it need not wait
        await pad.nothing()
        made.store.gate.set()
        assert (await pad.publication()).document == {"type": "delivered", "up_to": sent["mid"]}


async def test_what_one_device_learns_from_the_store_the_others_learn_too() -> None:
    """Node 1 could not tell node 0; the next device that subscribes there finds it in the store."""
    async with nodes(FRIENDS) as made:
        ann, ben = await made[0].person("ann"), await made[1].person("ben")
        sent = await said_and_taken(ann, ben)
        elsewhere = made[1].node.elsewhere
        assert elsewhere is not None
        elsewhere.whereabouts.known["ann"] = NOWHERE
        reading = render_read(sent["mid"])
        ben.send(packets.publish("inbox/ann/receipt/ben", reading, qos=1, id=9))
        await ben.expect_acknowledged(9)
        await ann.nothing()
        pad = await made[0].person("ann", "pad")
        read = {"type": "read", "up_to": sent["mid"]}
        assert await pad.heard(2) == [{"type": "delivered", "up_to": sent["mid"]}, read]
        assert await ann.heard(1) == [read]


async def test_who_comes_back_to_a_session_hears_receipts_in_order_before_the_inbox_is_claimed() -> None:
    """The subscriptions are there with the CONNACK; how far others have come is read only after the claim."""
    async with nodes(FRIENDS) as made:
        ann = await made[0].person("ann", clean=False)
        ann.close()
        inboxes = made[0].node.inboxes
        assert inboxes is not None
        await until(lambda: not made[0].node.connections and not inboxes.receipts._told)
        made.store.claims.clear()
        again = Person(*await made[0].open())
        made[0].clients.append(again)
        await again.connected("phone", packets.RESUMED, user="ann", clean=False)
        for payload in (render_delivered(7), render_delivered(5), render_delivered(8)):
            tell(made, payload)
        assert await again.heard(2) == [{"type": "delivered", "up_to": 7}, {"type": "delivered", "up_to": 8}]
        made.store.claims.set()
        again.close()
        await until(lambda: not inboxes.receipts._told)


async def test_what_is_read_for_a_connection_that_is_gone_is_told_to_nobody() -> None:
    """It was read again, because the connection had not read for a while; meanwhile the user is back and knows more."""
    store = Slow()
    async with chatting(FRIENDS, shared=Shared(store, Friends(FRIENDS))) as chat:
        ann, ben = await chat.person("ann"), await chat.person("ben")
        mid = (await said_and_taken(ann, ben))["mid"]
        await store.commit(Batch([], delivered=[Delivered("ben", "ann", mid + 10)]))
        inboxes = chat.node.inboxes
        assert inboxes is not None
        receipts = inboxes.receipts
        store.slow = True
        (phone,) = [one for one in chat.node.connections if one.session is not None and one.session.user == "ann"]
        receipts._send_states_again([phone])
        await until(lambda: len(store.gates) == 1)
        store.slow = False
        ann.close()
        await until(lambda: "ann" not in receipts._told)
        await store.commit(Batch([], delivered=[Delivered("ben", "ann", mid + 20)]))
        again = await chat.person("ann")
        assert await message(again) == {"type": "delivered", "up_to": mid + 20}
        store.gates[0].set()
        await again.nothing()
