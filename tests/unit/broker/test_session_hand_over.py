"""A session that follows its device from one node to another, and what the device hears there."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from aldis.broker.cluster_ports import SessionHanded
from aldis.broker.core.reasons import CloseReason
from aldis.broker.core.session_state import SessionState
from aldis.broker.session_hand_over import Handing, adopt, hand_over, parcels
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.unit.broker.chat import chatting
from tests.unit.broker.lab import Lab, running, until

USER = "alice"


def move(old: Lab, new: Lab, device: str = "c", user: str = USER) -> bool:
    portions = hand_over(old.node, user, device)
    assert portions is not None
    return adopt(new.node, user, device, portions)


def device(options: dict[str, object] | None = None) -> dict[str, object]:
    return {"user": USER, "clean": False, **(options or {})}


async def test_the_device_goes_on_where_it_was() -> None:
    async with running() as old, running() as new:
        one = await (await old.client(**device())).subscribed(("t/#", 2))
        speaker = await old.client("speaker")
        for id, text in enumerate((b"one", b"two", b"three"), 1):
            speaker.send(wire.publish("t/x", text, qos=2 if id == 2 else 1, id=id))
        await one.expect(
            wire.publish("t/x", b"one", qos=1, id=1),
            wire.publish("t/x", b"two", qos=2, id=2),
            wire.publish("t/x", b"three", qos=1, id=3),
        )
        one.send(wire.pubrec(2), wire.puback(3))
        await one.expect(wire.pubrel(2))
        await one.nothing()

        assert move(old, new)
        assert await one.closed() == []
        assert old.node.figures.ended[CloseReason.TAKEN_OVER] == 1

        speaker = await new.client("speaker")
        speaker.send(wire.publish("t/x", b"while away", qos=1, id=1))
        await speaker.expect(wire.puback(1))
        again = await new.client(answer=wire.RESUMED, **device())
        await again.expect(
            wire.publish("t/x", b"one", qos=1, id=1, dup=True),
            wire.pubrel(2),
            wire.publish("t/x", b"while away", qos=1, id=4),
        )
        await again.nothing()


async def test_nothing_of_it_stays_on_the_old_node() -> None:
    async with running() as old, running() as new:
        one = await (await old.client(**device())).subscribed(("t/#", 1))
        assert move(old, new)
        await one.closed()
        assert (USER, "c") not in old.node.sessions.subscribers
        assert old.node.router.route("t/x") == []
        assert hand_over(old.node, USER, "c") is None
        await old.client(**device())  # not present


async def test_a_session_whose_device_is_away_is_handed_over_with_its_queue() -> None:
    async with running() as old, running() as new:
        one = await (await old.client(**device())).subscribed(("t/#", 1))
        one.close()
        await until(lambda: old.node.sessions.subscribers[USER, "c"].connection is None)
        speaker = await old.client("speaker")
        speaker.send(wire.publish("t/x", b"waits", qos=1, id=1))
        await speaker.expect(wire.puback(1))
        assert move(old, new)
        again = await new.client(answer=wire.RESUMED, **device())
        await again.expect(wire.publish("t/x", b"waits", qos=1, id=1))


async def test_of_a_clean_session_nothing_is_handed_over_but_its_connection_ends() -> None:
    async with running() as old:
        will = wire.Will("t/will", b"gone", 0, False)
        one = await old.client(user=USER, will=will)
        witness = await (await old.client("witness")).subscribed(("t/#", 0))
        assert hand_over(old.node, USER, "c") is None
        assert await one.closed() == []
        await witness.expect(wire.publish("t/will", b"gone"))
        assert hand_over(old.node, USER, "never") is None


async def test_a_qos_2_publish_that_is_safe_is_not_passed_on_twice() -> None:
    async with running() as old, running() as new:
        one = await old.client(**device())
        one.send(wire.publish("t/x", b"once", qos=2, id=9))
        await one.expect(wire.pubrec(9))
        assert move(old, new)
        witness = await (await new.client("witness")).subscribed(("t/#", 0))
        again = await new.client(answer=wire.RESUMED, **device())
        again.send(wire.publish("t/x", b"once", qos=2, id=9, dup=True))
        await again.expect(wire.pubrec(9))
        again.send(wire.pubrel(9))
        await again.expect(wire.pubcomp(9))
        await witness.nothing()


async def test_inbox_items_come_again_under_their_packet_ids() -> None:
    async with chatting((USER, "bob")) as chat:
        bob = await chat.person("bob")
        alice = await chat.person(USER, "c", clean=False)
        for id in (1, 2):
            bob.say(USER, {"id": id, "body": "hi"}, id=id)
        first = [await alice.publication() for _ in range(2)]
        assert move(chat, chat)
        again = await chat.client(answer=wire.RESUMED, **device())
        second = [await again.publication() for _ in range(2)]
        assert [(one.id, one.document["n"], one.dup) for one in first] == [(1, 1, False), (2, 2, False)]
        assert [(one.id, one.document["n"], one.dup) for one in second] == [(1, 1, True), (2, 2, True)]


async def test_what_was_kept_here_before_is_older() -> None:
    async with running() as old, running() as new:
        stale = await (await new.client(**device())).subscribed(("stale/#", 1))
        stale.close()
        await until(lambda: new.node.sessions.subscribers[USER, "c"].connection is None)
        await (await old.client(**device())).subscribed(("t/#", 1))
        assert move(old, new)
        assert new.node.router.route("stale/x") == []
        assert len(new.node.router.route("t/x")) == 1


async def test_a_device_that_is_connected_here_keeps_what_it_has() -> None:
    async with running() as old, running() as new:
        one = await (await new.client(**device())).subscribed(("mine/#", 1))
        await (await old.client(**device())).subscribed(("t/#", 1))
        assert not move(old, new)
        assert new.node.router.route("t/x") == []
        await one.nothing()


@pytest.mark.parametrize("limits", [Limits(max_sessions=1), Limits(max_subscriptions=1)])
async def test_a_session_beyond_a_limit_is_not_adopted(limits: Limits, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as old, running(limits=limits) as new:
        await new.client("other")
        await (await old.client(**device())).subscribed(("a", 1), ("b", 1))
        assert not move(old, new)
        assert (USER, "c") not in new.node.sessions.subscribers
        assert new.node.router.route("a") == []
        assert "exceeds a limit" in caplog.text


async def test_the_queue_and_the_window_are_those_of_the_new_node(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as old, running(limits=Limits(max_queued=2, max_inflight=1)) as new:
        one = await (await old.client(**device())).subscribed(("t", 1))
        one.close()
        await until(lambda: old.node.sessions.subscribers[USER, "c"].connection is None)
        speaker = await old.client("speaker")
        for id in range(1, 6):
            speaker.send(wire.publish("t", b"%d" % id, qos=1, id=id))
            await speaker.expect(wire.puback(id))
        assert move(old, new)
        assert "queue is full" in caplog.text
        again = await new.client(answer=wire.RESUMED, **device())
        await again.expect(wire.publish("t", b"1", qos=1, id=1))
        await again.nothing()
        again.send(wire.puback(1))
        await again.expect(wire.publish("t", b"2", qos=1, id=2))
        again.send(wire.puback(2))
        await again.nothing()


async def test_an_adopted_session_expires_if_its_device_does_not_come() -> None:
    timeouts = Timeouts(session_expiry=0.05)
    async with running() as old, running(timeouts=timeouts) as new:
        await (await old.client(**device())).subscribed(("t", 1))
        assert move(old, new)
        await until(lambda: (USER, "c") not in new.node.sessions.subscribers)
        assert new.node.router.route("t") == []


STATES = [SessionState(last_id=number) for number in (1, 2, 3)]


class TestParcels:
    def handed(self, *order: int) -> Handing:
        sent = parcels(USER, "c", 5, STATES)
        handing = Handing()
        for place in order:
            data = msgspec.msgpack.encode(sent[place])
            handing.take(msgspec.msgpack.decode(data, type=SessionHanded))
        return handing

    def test_all_of_them_in_their_order(self) -> None:
        handing = self.handed(0, 1, 2)
        assert handing.complete and not handing.void
        assert handing.portions == STATES

    @pytest.mark.parametrize("order", [(0, 2), (1, 2), (0, 0, 1, 2), (0, 2, 1), (2,), (0, 1, 2, 2), (0, 2, 0, 1, 2)])
    def test_one_lost_or_out_of_turn_makes_all_of_it_void(self, order: tuple[int, ...]) -> None:
        handing = self.handed(*order)
        assert handing.void and not handing.complete
        assert handing.portions is None

    def test_the_first_ones_are_neither_complete_nor_void(self) -> None:
        handing = self.handed(0, 1)
        assert not handing.complete and not handing.void

    def test_a_session_that_is_not_known(self) -> None:
        (parcel,) = parcels(USER, "c", 5, None)
        assert (parcel.known, parcel.last, parcel.state) == (False, True, None)
        handing = Handing()
        handing.take(parcel)
        assert handing.complete and handing.portions is None


async def test_a_commit_under_way_does_not_hold_it_up() -> None:
    """A PUBLISH that waits for the store when the device goes is answered to nobody, and its repeat is the same
    message: the id says so."""
    async with chatting((USER, "bob")) as chat:
        alice = await chat.person(USER, "c", clean=False)
        chat.store.gate.clear()
        alice.say("bob", {"id": 7, "body": "hi"}, id=3, qos=2)
        await until(lambda: chat.node.sessions.subscribers[USER, "c"].session.knows_incoming(3))
        assert move(chat, chat)
        again = await chat.client(answer=wire.RESUMED, **device())
        again.send(wire.publish("inbox/bob/chat/alice", b'{"id": 7, "body": "hi"}', qos=2, id=3, dup=True))
        await asyncio.sleep(0)
        chat.store.gate.set()
        receipt = await again.publication()
        assert receipt.document["type"] == "sent"
        await again.expect(wire.pubrec(3))
        assert await chat.store.head("bob") == 1
