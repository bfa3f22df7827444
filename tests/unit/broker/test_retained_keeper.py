"""Retained messages that outlive a node: written a moment later, read once, forgotten when nobody is there."""

from __future__ import annotations

import asyncio

import pytest

from aldis.broker import retained_keeper
from aldis.broker.core.packets import Message
from aldis.broker.ports import RetainedMessage
from aldis.broker.retained_keeper import RetainedKeeper, owner_of
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.unit.broker.keeping import TOPIC, Store, keeping, say
from tests.unit.broker.lab import until


@pytest.fixture
def no_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained_keeper, "_MOMENT", 0.0)


class TestAcrossARestart:
    async def test_a_retained_message_is_there_on_the_next_node(self) -> None:
        store = Store()
        async with keeping(store) as one:
            await say(await one.client(), b"on")
            await one.written()
        async with keeping(store) as other:
            client = await other.client()
            client.send(wire.subscribe(1, ("devices/alice/#", 1)))
            await client.expect(wire.suback(1, 1), wire.publish(TOPIC, b"on", qos=1, id=1, retain=True))

    async def test_a_cleared_one_is_not_although_its_owner_was_not_read(self) -> None:
        store = Store()
        await store.retain([RetainedMessage(TOPIC, b"old", 0)])
        async with keeping(store) as one:
            await say(await one.client(), b"")
            await one.written()
            assert await store.kept() == {}

    async def test_what_waits_is_written_at_shutdown(self) -> None:
        store = Store()
        timeouts = Timeouts(collect_retained=60.0)
        async with keeping(store, timeouts=timeouts) as one:
            await say(await one.client(), b"on")
            await asyncio.sleep(0.05)
            assert store.writes == []
        assert await store.kept() == {TOPIC: b"on"}

    async def test_a_shutdown_that_cannot_write_says_how_much_is_lost(self, caplog: pytest.LogCaptureFixture) -> None:
        async with keeping() as one:
            one.store.down = True
            await say(await one.client(), b"on")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(one.keeper.stop(), 0.1)
            assert "1 changes of retained messages were not written" in caplog.text
            one.keeper = RetainedKeeper(one.node, one.store)
            one.keeper.start()


class TestWriting:
    async def test_of_many_changes_the_last_is_written_in_one_batch(self) -> None:
        async with keeping(timeouts=Timeouts(collect_retained=0.15)) as one:
            client = await one.client()
            for number in range(50):
                await say(client, b"%d" % number, qos=number % 2)
                await say(client, b"%d" % number, "devices/alice/other", qos=0)
            await one.written()
            assert [{m.topic: m.payload for m in batch} for batch in one.store.writes] == [
                {TOPIC: b"49", "devices/alice/other": b"49"}
            ]
            assert one.store.reads == ["devices/alice/"]

    async def test_only_what_is_below_a_user_of_devices(self) -> None:
        async with keeping() as one:
            one.node.router.retain(Message("$SYS/broker/x", b"x", retain=True))
            one.node.router.retain(Message("devices/alice", b"x", retain=True))
            one.node.router.retain(Message("devices//x", b"x", retain=True))
            one.node.router.retain(Message(f"devices/{'x' * 65}/x", b"x", retain=True))
            one.node.router.retain(Message("devices/x/", b"x", retain=True))
            await one.written()
            assert [[m.topic for m in batch] for batch in one.store.writes] == [["devices/x/"]]

    async def test_while_the_store_is_down_it_is_kept_and_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        async with keeping() as one:
            client = await one.client()
            await say(client, b"1")
            await one.written()
            one.store.down = True
            await say(client, b"2")
            await until(lambda: "the store takes no retained messages" in caplog.text)
            await say(client, b"3", "devices/alice/other")
            await say(client, b"4")
            one.store.down = False
            await one.written()
            assert await one.store.kept() == {TOPIC: b"4", "devices/alice/other": b"3"}

    async def test_a_defect_is_logged_and_does_not_stop_the_rest(self, caplog: pytest.LogCaptureFixture) -> None:
        async with keeping() as one:
            one.store.defect = True
            client = await one.client()
            await say(client, b"1")
            await until(lambda: "could not be written and are given up" in caplog.text)
            await say(client, b"2")
            await one.written()
            assert await one.store.kept() == {TOPIC: b"2"}

    @pytest.mark.parametrize("limits", [Limits(max_unwritten_retained=3), Limits(max_unwritten_retained_bytes=60)])
    async def test_what_waits_is_bounded(self, limits: Limits, caplog: pytest.LogCaptureFixture) -> None:
        async with keeping(limits=limits) as one:
            one.store.down = True
            client = await one.client()
            for number in range(6):
                await say(client, b"%d" % number, f"devices/alice/{number}")
            assert len(one.keeper._unwritten) == 3
            assert "were dropped: the store does not take them" in caplog.text
            one.store.down = False
            await one.written()
            assert set(await one.store.kept()) == {f"devices/alice/{number}" for number in (3, 4, 5)}

    async def test_what_does_not_fit_into_memory_leaves_the_store_too(self) -> None:
        async with keeping(limits=Limits(max_retained_size=3)) as one:
            client = await one.client()
            await say(client, b"123")
            await one.written()
            await say(client, b"1234")
            await one.written()
            assert await one.store.kept() == {}


class TestTheLimitOfAUser:
    LIMITS = Limits(max_retained_per_user=2)

    async def test_one_topic_too_many_is_not_retained(self, caplog: pytest.LogCaptureFixture) -> None:
        async with keeping(limits=self.LIMITS) as one:
            client = await one.client()
            await say(client, b"1", "devices/alice/1")
            await one.written()
            for number in (2, 3):
                await say(client, b"1", f"devices/alice/{number}")
            await say(client, b"2", "devices/alice/1")  # not new
            bob = await one.client(user="bob")
            await say(bob, b"1", "devices/bob/1")
            await one.written()
            assert await one.store.kept() == {"devices/alice/1": b"2", "devices/alice/2": b"1"}
            assert one.in_memory() == {**await one.store.kept(), "devices/bob/1": b"1"}
            assert "not retained" in caplog.text
            await say(client, b"", "devices/alice/1")
            await say(client, b"1", "devices/alice/3")
            await one.written()
            assert set(await one.store.kept()) == {"devices/alice/2", "devices/alice/3"}

    async def test_it_holds_for_what_came_before_it_was_known_how_many_there_are(self) -> None:
        store = Store()
        await store.retain([RetainedMessage("devices/alice/old", b"x", 0)])
        async with keeping(store, limits=self.LIMITS) as one:
            store.gate.clear()
            client = await one.client()
            for number in range(5):
                await say(client, b"1", f"devices/alice/{number}")
            await asyncio.sleep(0.05)
            assert len(store.writes) == 1
            store.gate.set()
            await one.written()
            assert set(await store.kept()) == {"devices/alice/old", "devices/alice/0"} == set(one.in_memory())


class TestReading:
    async def test_several_subscribers_share_one_reading(self) -> None:
        store = Store()
        await store.retain([RetainedMessage(TOPIC, b"on", 2)])
        async with keeping(store) as one:
            store.gate.clear()
            clients = [await one.client(str(number)) for number in range(3)]
            for client in clients:
                client.send(wire.subscribe(1, ("devices/alice/+", 0)))
                await until(lambda: store.reads != [])
            await asyncio.sleep(0.02)
            store.gate.set()
            for client in clients:
                await client.expect(wire.suback(1, 0), wire.publish(TOPIC, b"on", retain=True))
            await (await one.client("4")).subscribed(("devices/alice/+", 0))
            assert store.reads == ["devices/alice/"]

    async def test_a_filter_that_does_not_reach_there_waits_for_nothing(self) -> None:
        async with keeping() as one:
            await (await one.client()).subscribed(("inbox/alice/#", 1))
            assert one.store.reads == []

    async def test_what_changes_meanwhile_wins(self) -> None:
        store = Store()
        topics = [f"devices/alice/{number}" for number in range(4)]
        await store.retain([RetainedMessage(topic, b"old", 0) for topic in topics])
        async with keeping(store) as one:
            store.gate.clear()
            client = await one.client("speaker")
            late = await one.client("late")
            late.send(wire.subscribe(1, ("devices/alice/#", 0)))
            await until(lambda: store.reads != [])
            await say(client, b"new", topics[0])
            await say(client, b"", topics[1])
            one.keeper.changed_elsewhere(topics[2], b"elsewhere", 1)
            store.gate.set()
            assert one.in_memory().keys() == {topics[0], topics[2]}
            await until(lambda: topics[3] in one.in_memory())
            told = [wire.published(packet) for packet in await late.settled() if wire.is_publish(packet)]
            found = {m.topic: m.payload for m in told if m.retain}
            assert found == {topics[0]: b"new", topics[2]: b"elsewhere", topics[3]: b"old"} == one.in_memory()
            await one.written()
            assert await store.kept() == {topics[0]: b"new", topics[2]: b"old", topics[3]: b"old"}  # not ours to write

    async def test_while_the_store_is_down_the_suback_goes_out_and_the_rest_follows(self) -> None:
        store = Store()
        await store.retain([RetainedMessage(TOPIC, b"stored", 1), RetainedMessage("devices/alice/x", b"x", 0)])
        async with keeping(store, timeouts=Timeouts(read_retained=0.05, commit_retry=0.02)) as one:
            store.down = True
            speaker = await one.client("speaker")
            await say(speaker, b"here", "devices/alice/here")
            client = await (await one.client()).subscribed(("devices/alice/+", 1), ("inbox/alice/#", 1))
            await client.expect(wire.publish("devices/alice/here", b"here", qos=1, id=1, retain=True))
            gone = await (await one.client("gone")).subscribed((TOPIC, 1))
            gone.send(wire.unsubscribe(2, TOPIC))
            await gone.expect(wire.unsuback(2))
            await say(speaker, b"live", TOPIC, qos=0, retain=False)
            await client.expect(wire.publish(TOPIC, b"live"))
            store.down = False
            found = [wire.published(await client.packet()) for _ in range(2)]
            assert {(m.topic, m.payload, m.qos, m.retain) for m in found} == {
                (TOPIC, b"stored", 1, True),
                ("devices/alice/x", b"x", 0, True),
            }
            await client.nothing()
            await gone.nothing()

    async def test_what_memory_cannot_take_is_said_and_tried_again(self, caplog: pytest.LogCaptureFixture) -> None:
        store = Store()
        await store.retain([RetainedMessage(f"devices/alice/{number}", b"x", 0) for number in range(3)])
        async with keeping(store, limits=Limits(max_retained=2)) as one:
            await (await one.client()).subscribed(("devices/alice/#", 0))
            assert len(one.in_memory()) == 2
            assert "do not fit into memory" in caplog.text
            await (await one.client("2")).subscribed(("devices/alice/#", 0))
            assert len(store.reads) == 2
            assert len(await store.kept()) == 3

    async def test_after_something_was_missed_it_is_read_again(self, no_moment: None) -> None:
        async with keeping() as one:
            client = await one.client()
            await say(client, b"old")
            await say(client, b"goes", "devices/alice/gone")
            await one.written()
            await one.store.retain([RetainedMessage(TOPIC, b"new", 0), RetainedMessage("devices/alice/gone", b"", 0)])
            await asyncio.sleep(0.3)  # a grain of the node's clock
            one.keeper.doubt()
            await client.subscribed((TOPIC, 0))
            assert (await client.publication()).payload == b"new"
            assert one.in_memory() == {TOPIC: b"new"}

    async def test_so_it_is_if_it_was_missed_while_it_was_being_read(self, no_moment: None) -> None:
        async with keeping() as one:
            one.store.gate.clear()
            client = await one.client()
            client.send(wire.subscribe(1, (TOPIC, 0)))
            await until(lambda: len(one.store.reads) == 1)
            one.keeper.doubt()
            one.store.gate.set()
            await client.expect(wire.suback(1, 0))
            for _ in range(2):
                await asyncio.sleep(0.3)  # a grain of the node's clock
                await client.subscribed((TOPIC, 0))
            assert len(one.store.reads) == 2

    async def test_in_doubt_the_store_is_believed_and_asked_for_a_moment(self) -> None:
        """What was heard just before the hole is older than what the hole has swallowed."""
        async with keeping() as one:
            one.keeper.changed_elsewhere(TOPIC, b"heard", 0)
            await one.store.retain([RetainedMessage(TOPIC, b"missed", 0)])
            await asyncio.sleep(0.3)
            one.keeper.doubt()
            client = await (await one.client()).subscribed((TOPIC, 0))
            assert (await client.publication()).payload == b"missed"
            await client.subscribed((TOPIC, 0))
            assert (await client.publication()).payload == b"missed"
            assert len(one.store.reads) == 2


class TestElsewhere:
    async def test_memory_follows_and_nothing_is_written(self) -> None:
        async with keeping() as one:
            client = await (await one.client()).subscribed(("devices/alice/#", 0))
            one.keeper.changed_elsewhere(TOPIC, b"on", 1)
            await client.nothing()
            other = await (await one.client("other")).subscribed(("devices/alice/#", 1))
            await other.expect(wire.publish(TOPIC, b"on", qos=1, id=1, retain=True))
            one.keeper.changed_elsewhere(TOPIC, b"", 0)
            await (await one.client("third")).subscribed(("devices/alice/#", 1))
            assert one.in_memory() == {} and one.store.writes == []

    async def test_an_older_change_of_ours_does_not_overwrite_theirs(self) -> None:
        async with keeping() as one:
            client = await one.client()
            await say(client, b"first")
            await one.written()
            one.store.writing.clear()
            await say(client, b"ours")
            await asyncio.sleep(0.05)  # it is being written
            one.keeper.changed_elsewhere(TOPIC, b"theirs", 0)
            one.store.writing.set()
            await one.written()
            assert await one.store.kept() == {TOPIC: b"theirs"}
            assert one.in_memory() == {TOPIC: b"theirs"}

    async def test_who_begins_to_hold_the_user_is_told_what_the_store_may_not_have(self) -> None:
        async with keeping() as one:
            client = await one.client()
            assert one.keeper.recent("alice") == []
            await say(client, b"on")
            await say(client, b"", "devices/alice/gone")
            one.keeper.changed_elsewhere("devices/alice/theirs", b"x", 0)
            wanted = {(TOPIC, b"on"), ("devices/alice/gone", b"")}
            assert {(m.topic, m.payload) for m in one.keeper.recent("alice")} == wanted
            await one.written()
            assert {(m.topic, m.payload) for m in one.keeper.recent("alice")} >= {(TOPIC, b"on")}


class TestMemory:
    async def test_it_forgets_a_user_whose_last_connection_is_gone(self, no_moment: None) -> None:
        async with keeping() as one:
            phone, laptop = await one.client("phone", clean=False), await one.client("laptop")
            bob = await one.client(user="bob")
            await say(bob, b"bob's", "devices/bob/x")
            await say(phone, b"on")
            phone.close()
            await asyncio.sleep(0.6)
            assert one.in_memory() == {TOPIC: b"on", "devices/bob/x": b"bob's"}
            laptop.close()
            await until(lambda: one.in_memory() == {"devices/bob/x": b"bob's"})
            assert await one.store.kept() == {TOPIC: b"on"}
            again = await (await one.client("phone", clean=True)).subscribed((TOPIC, 0))
            await again.expect(wire.publish(TOPIC, b"on", retain=True))

    async def test_not_if_the_user_comes_back_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(retained_keeper, "_MOMENT", 0.3)
        async with keeping() as one:
            phone = await one.client("phone")
            await say(phone, b"on")
            await one.written()
            phone.close()
            await until(lambda: not one.node.decisions.present("alice"))
            again = await one.client("phone")
            await asyncio.sleep(1.0)
            assert one.in_memory() == {TOPIC: b"on"}
            await again.subscribed((TOPIC, 0))
            assert one.store.reads == ["devices/alice/"]

    async def test_not_before_everything_is_written(self, no_moment: None) -> None:
        async with keeping() as one:
            phone = await one.client("phone")
            await say(phone, b"1")
            await one.written()
            one.store.down = True
            await say(phone, b"2")
            phone.close()
            await asyncio.sleep(0.6)
            assert one.in_memory() == {TOPIC: b"2"}
            one.store.down = False
            await until(lambda: one.in_memory() == {})
            assert await one.store.kept() == {TOPIC: b"2"}
            assert one.keeper._owners == {}

    async def test_a_will_that_is_retained_is_kept(self, no_moment: None) -> None:
        async with keeping() as one:
            phone = await one.client("phone", will=wire.Will(TOPIC, b"offline", 1, True))
            phone.close()
            await until(lambda: one.store.writes != [])
            await until(lambda: one.in_memory() == {} and one.keeper._owners == {})
            assert await one.store.kept() == {TOPIC: b"offline"}


def test_owner_of() -> None:
    assert owner_of("devices/alice/x") == owner_of("devices/alice/") == owner_of("devices/alice//x") == "alice"
    assert owner_of("devices/alice") == owner_of("devices") == owner_of("x/alice/x") == owner_of("devices//x") == ""
