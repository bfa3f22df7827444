"""A device that comes back and wants its inbox differently: nothing is lost, and nothing waits for what never comes."""

from __future__ import annotations

import asyncio

import pytest

from aldis.broker.ports import Item, StoreUnavailable
from aldis.config.settings import Limits
from tests import wire
from tests.unit.broker.chat import OURS, Chat, Person, chatting
from tests.unit.broker.lab import PLUGINS

WINDOW = Limits(max_inflight=3)
INBOX = "inbox/ann/#"


async def filled(chat: Chat, count: int = 5) -> None:
    """`count` messages for ann; her phone has taken as many as its window allows, acknowledged none, and is gone."""
    ann = await chat.person("ann", clean=False)
    ben = await chat.person("ben")
    for number in range(1, count + 1):
        ben.say("ann", {"body": number}, id=number)
    for number in range(1, min(count, WINDOW.max_inflight) + 1):
        assert (await ann.publication()).document["body"] == number
    await ann.nothing()
    ann.close()


async def back(chat: Chat, *packets: bytes) -> Person:
    """The phone again, with these packets right behind its CONNECT."""
    ann = Person(*await chat.open())
    chat.clients.append(ann)
    ann.user = "ann"
    ann.send(wire.connect("phone", user="ann", clean=False), *packets)
    await ann.expect(wire.RESUMED)
    return ann


async def numbers(ann: Person, count: int, *, acknowledge: bool = True) -> list[tuple[int, int, bool]]:
    """(body, packet id, DUP) of the next messages; receipts apart."""
    found = []
    while len(found) < count:
        published = await ann.publication()
        if "body" not in published.document:
            continue
        if published.qos and acknowledge:
            ann.send(wire.puback(published.id))
        found.append((published.document["body"], published.id, published.dup))
    return found


async def lamp(ann: Person, number: int) -> None:
    """A plain message at QoS 1 reaches her, and is not acknowledged."""
    ann.send(wire.publish("devices/ann/lamp", b"%d" % number, qos=1, id=100 + number))
    found = await ann.publication()
    assert (found.payload, found.qos) == (b"%d" % number, 1)
    await ann.expect(wire.puback(100 + number))


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a defect in a driver")])
async def test_a_read_that_fails_is_tried_again_whatever_the_reason(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with chatting(("ann", "ben"), limits=WINDOW) as chat:
        await filled(chat, 2)
        tried = asyncio.Event()

        async def items(*_: object, **__: object) -> list[Item]:
            tried.set()
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(chat.store, "items", items)
            ann = await back(chat)
            await tried.wait()
            await ann.nothing()
        assert [body for body, _, _ in await numbers(ann, 2)] == [1, 2]


async def test_what_was_under_way_comes_again_with_dup_and_its_packet_id_then_the_rest() -> None:
    async with chatting(("ann", "ben"), limits=WINDOW) as chat:
        await filled(chat)
        ann = await back(chat)
        assert await numbers(ann, 5) == [(1, 1, True), (2, 2, True), (3, 3, True), (4, 4, False), (5, 5, False)]
        await ann.nothing()


async def test_a_device_that_now_wants_qos_0_gets_everything_at_qos_0() -> None:
    """Its reserved packet ids fill the window, and no acknowledgement will ever free them."""
    async with chatting(("ann", "ben"), limits=WINDOW) as chat:
        await filled(chat)
        ann = await back(chat, wire.subscribe(1, (INBOX, 0), ("devices/ann/#", 1)))
        await ann.expect(wire.suback(1, 0, 1))
        assert [body for body, id, _ in await numbers(ann, 5) if id == 0] == [1, 2, 3, 4, 5]
        for number in range(3):
            await lamp(ann, number)


async def test_a_device_that_now_wants_only_some_of_it() -> None:
    async with chatting(("ann", "ben"), ("ann", "cyd"), limits=WINDOW) as chat:
        await filled(chat, 3)
        cyd = await chat.person("cyd")
        cyd.say("ann", {"body": "from cyd"}, id=1)
        await cyd.expect_acknowledged(1)
        ann = await back(chat, wire.subscribe(1, ("inbox/ann/chat/cyd", 1)), wire.unsubscribe(2, INBOX))
        await ann.expect(wire.suback(1, 1))
        found = [one for one in await ann.settled() if wire.is_publish(one)]
        assert [wire.published(one).document["body"] for one in found][-1] == "from cyd"


@pytest.mark.parametrize("plugins", [{}, {f"{PLUGINS}.TopicRules": {}}], ids=["plain", "with a topic plugin"])
async def test_who_leaves_the_inbox_while_it_is_being_opened_finds_it_as_it_was(plugins: dict[str, object]) -> None:
    async with chatting(("ann", "ben"), limits=WINDOW, plugins={**OURS, **plugins}) as chat:  # type: ignore[dict-item]
        await filled(chat)
        chat.store.claims.clear()
        ann = await back(chat)
        await ann.nothing()
        ann.send(wire.unsubscribe(1, INBOX))
        await ann.expect(wire.unsuback(1))
        chat.store.claims.set()
        await ann.nothing()
        await ann.subscribed((INBOX, 1))
        assert [body for body, _, _ in await numbers(ann, 5)] == [1, 2, 3, 4, 5]


async def test_who_leaves_the_inbox_has_the_whole_window_for_other_things() -> None:
    async with chatting(("ann", "ben"), limits=WINDOW) as chat:
        await filled(chat)
        ann = await back(chat, wire.unsubscribe(1, INBOX), wire.subscribe(2, ("devices/ann/#", 1)))
        await ann.expect(wire.unsuback(1), wire.suback(2, 1))
        for number in range(3):
            await lamp(ann, number)
        await ann.subscribed((INBOX, 1))
        await ann.nothing()  # the window is full
        for id in range(4, 7):
            ann.send(wire.puback(id))
        assert [body for body, _, _ in await numbers(ann, 5)] == [1, 2, 3, 4, 5]


async def test_unsubscribing_and_subscribing_again_on_one_connection_loses_nothing() -> None:
    async with chatting(("ann", "ben"), limits=Limits(max_inflight=10)) as chat:
        ann, ben = await chat.person("ann"), await chat.person("ben")
        for number in (1, 2, 3):
            ben.say("ann", {"body": number}, id=number)
        first = await numbers(ann, 3, acknowledge=False)
        ann.send(wire.unsubscribe(2, INBOX))
        await ann.expect(wire.unsuback(2))
        ann.send(wire.puback(first[1][1]))  # late, and out of order: the cursor cannot follow
        await ann.subscribed((INBOX, 1))
        assert [body for body, _, _ in await numbers(ann, 3)] == [1, 2, 3]
        ann.send(wire.puback(first[0][1]), wire.puback(first[2][1]))
        ben.say("ann", {"body": 4}, id=4)
        assert [body for body, _, _ in await numbers(ann, 1)] == [4]
        (device,) = await chat.store.devices("ann")
        await ann.nothing()
        ann.close()
        again = await chat.person("ann", device.device)
        await again.nothing()
