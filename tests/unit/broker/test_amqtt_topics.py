"""Topic decisions by amqtt's plugins through a real connector: publish, subscribe, receive; slow and broken ones."""

from __future__ import annotations

import asyncio
import json

import pytest
from amqtt.contexts import Action

from tests import wire
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, Plugins, running, until

ACL = "amqtt.plugins.topic_checking.TopicAccessControlListPlugin"
RULES = f"{PLUGINS}.TopicRules"
pytestmark = pytest.mark.filterwarnings("ignore:The 'acl' option:DeprecationWarning")


def rules(**options: object) -> Plugins:
    return {ANONYMOUS: {}, RULES: options}


class TestAccessControlList:
    LISTS = (
        ("publish_acl", {"ann": ["home/+/set", "notes/#"], "ben": ["home/lamp/set"]}),
        ("acl", {"ann": ["home/#", "$SYS/#"], "ben": ["home/+/state"], "anonymous": ["open"]}),
    )

    async def test_subscribing(self) -> None:
        async with running({ANONYMOUS: {}, ACL: dict(self.LISTS)}) as lab:
            ann = await lab.client("a", user="ann")
            await ann.subscribed(
                ("home/lamp/state", 2), ("notes/x", 1), ("home/#", 0), ("#", 0), codes=(2, 0x80, 0, 0x80)
            )
            ben = await lab.client("b", user="ben")
            await ben.subscribed(("home/lamp/state", 1), ("home/lamp/set", 1), codes=(1, 0x80))
            nobody = await lab.client("c")
            await nobody.subscribed(("open", 1), ("home/lamp/state", 1), codes=(1, 0x80))
            stranger = await lab.client("d", user="cyd")
            await stranger.subscribed(("open", 1), ("home/lamp/state", 1), codes=(0x80, 0x80))
            assert set(lab.connector.subscriptions) == {"home/lamp/state", "home/#", "open"}

    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_publishing(self, qos: int) -> None:
        """What is refused is acknowledged, since 3.1.1 has no other answer, and goes nowhere."""
        async with running({ANONYMOUS: {}, ACL: dict(self.LISTS)}) as lab:
            ann = await lab.client("a", user="ann")
            await ann.subscribed(("home/#", 0))
            ben = await lab.client("b", user="ben")
            acknowledged = {0: [], 1: [wire.puback(7)], 2: [wire.pubrec(7)]}[qos]
            for topic in ("home/lamp/set", "home/door/set", "notes/x"):
                ben.send(wire.publish(topic, topic.encode(), qos=qos, id=7), wire.pubrel(7) if qos == 2 else b"")
                assert (await ben.settled())[: len(acknowledged)] == acknowledged
            assert (await ann.publication()).topic == "home/lamp/set"
            await ann.nothing()

    async def test_a_refused_publish_is_reported_to_who_wants_to_know(self) -> None:
        lists = {"publish_acl": {"ann": []}, "acl": {"ann": ["inbox/ann/#"]}}
        async with running({ANONYMOUS: {}, ACL: lists}) as lab:
            ann = await lab.client("a", user="ann")
            await ann.subscribed(("inbox/ann/#", 1))
            ann.send(wire.publish("home/lamp", b"on", qos=1, id=3))
            receipt = await ann.publication()
            assert receipt.topic == "inbox/ann/receipt/$server"
            assert json.loads(receipt.payload) == {
                "type": "failed",
                "id": None,
                "reason": "forbidden",
                "topic": "home/lamp",
            }
            await ann.expect(wire.puback(3))


class TestReceiving:
    async def test_who_may_not_receive_gets_neither_live_nor_retained_nor_later(self) -> None:
        async with running(rules(denied={"receive": ["ben"]})) as lab:
            ann = await lab.client("a", user="ann", clean=False)
            ben = await lab.client("b", user="ben", clean=False)
            for client in (ann, ben):
                await client.subscribed(("t", 1))
            cyd = await lab.client("c", user="cyd")
            cyd.send(wire.publish("t", b"live", qos=1, id=1, retain=True))
            await cyd.expect(wire.puback(1))
            assert (await ann.publication()).payload == b"live"
            await ben.nothing()
            for client in (ann, ben):
                client.send(wire.DISCONNECT)
                await client.closed()
            cyd.send(wire.publish("t", b"later", qos=1, id=2))
            await cyd.expect(wire.puback(2))
            back = await lab.client("b", answer=wire.RESUMED, user="ben", clean=False)
            await back.nothing()
            await back.subscribed(("t", 1))
            await back.nothing()
            back = await lab.client("a", answer=wire.RESUMED, user="ann", clean=False)
            assert [(await back.publication()).payload for _ in range(2)] == [b"live", b"later"]

    async def test_every_question_names_its_user_topic_and_action(self) -> None:
        async with running(rules()) as lab:
            ann = await lab.client("a", user="ann")
            await ann.subscribed(("t/+", 0))
            ben = await lab.client("b", user="ben")
            ben.send(wire.publish("t/1", b"x"))
            await ben.nothing()
            assert lab.plugin("TopicRules").asked == [
                ("ann", "t/+", Action.SUBSCRIBE),
                ("ben", "t/1", Action.PUBLISH),
                ("ann", "t/1", Action.RECEIVE),
            ]

    async def test_a_will_asks_as_any_publish_does(self) -> None:
        """amqtt publishes wills without asking anybody."""
        async with running(rules(denied={"publish": ["ben"]})) as lab:
            ann = await lab.client("a", user="ann")
            await ann.subscribed(("w", 0))
            for user in ("ben", "cyd"):
                (await lab.client(user, user=user, will=wire.Will("w", user.encode()))).close()
            assert (await ann.publication()).payload == b"cyd"
            await ann.nothing()


class TestTrouble:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_a_plugin_that_raises_ends_this_connection_unacknowledged(self, qos: int) -> None:
        async with running(rules(raising=["bad"])) as lab:
            other = await lab.client("o")
            await other.subscribed(("bad2", 0), ("good", 0))
            client = await lab.client("a")
            client.send(
                wire.publish("good", b"1", qos=qos, id=1), wire.publish("bad", b"2", qos=qos, id=2), wire.PINGREQ
            )
            answers = {0: [], 1: [wire.puback(1)], 2: [wire.pubrec(1)]}[qos]
            assert await client.closed() == answers
            assert (await other.publication()).payload == b"1"
            await other.nothing()
            again = await lab.client("a")
            again.send(wire.publish("good", b"3"))
            assert (await other.publication()).payload == b"3"

    async def test_one_that_raises_at_subscribe_ends_this_connection_too(self) -> None:
        async with running(rules(raising=["bad"])) as lab:
            other = await lab.client("o")
            client = await lab.client("a")
            client.send(wire.subscribe(1, ("good", 0), ("bad", 0)))
            assert await client.closed() == []
            await other.nothing()
            assert lab.connector.subscriptions == {}

    async def test_mqtt_4_3_3_what_failed_at_qos_2_is_new_when_it_comes_again(self) -> None:
        """The message was never passed on, so the repeat must be, and be acknowledged."""
        async with running(rules(raising=["t"])) as lab:
            other = await lab.client("o")
            await other.subscribed(("other", 0))
            client = await lab.client("a", clean=False)
            client.send(wire.publish("t", b"x", qos=2, id=5))
            assert await client.closed() == []
            lab.plugin("TopicRules").raising.clear()
            await other.subscribed(("t", 0))
            client = await lab.client("a", answer=wire.RESUMED, clean=False)
            client.send(wire.publish("t", b"x", qos=2, id=5, dup=True))
            await client.expect(wire.pubrec(5))
            assert (await other.publication()).payload == b"x"

    async def test_a_connection_that_ends_while_the_plugin_thinks_can_send_its_qos_2_again(self) -> None:
        async with running(rules(slow=["t"], seconds=0.2)) as lab:
            client = await lab.client("a", clean=False)
            client.send(wire.publish("t", b"x", qos=2, id=5))
            await until(lambda: len(lab.plugin("TopicRules").asked) == 1)
            again = await lab.client("a", answer=wire.RESUMED, clean=False)  # takes over
            again.send(wire.publish("t", b"x", qos=2, id=5, dup=True))
            await again.expect(wire.pubrec(5))

    async def test_who_repeats_what_then_fails_is_disconnected_too_and_may_repeat_it_again(self) -> None:
        async with running(rules(slow=["t"], raising=["t"], seconds=0.2)) as lab:
            client = await lab.client("a", clean=False)
            client.send(wire.publish("t", b"x", qos=2, id=5))
            await until(lambda: len(lab.plugin("TopicRules").asked) == 1)
            again = await lab.client("a", answer=wire.RESUMED, clean=False)
            again.send(wire.publish("t", b"x", qos=2, id=5, dup=True))
            assert await again.closed() == []
            lab.plugin("TopicRules").raising.clear()
            again = await lab.client("a", answer=wire.RESUMED, clean=False)
            again.send(wire.publish("t", b"x", qos=2, id=5, dup=True))
            await again.expect(wire.pubrec(5))

    async def test_a_slow_decision_for_one_client_delays_no_other(self) -> None:
        async with running(rules(slow=["slow"], seconds=30)) as lab:
            reader = await lab.client("r")
            await reader.subscribed(("#", 1))
            slow, quick = await lab.client("s"), await lab.client("q")
            slow.send(wire.publish("slow", b"1", qos=1, id=1))
            await until(lambda: any(topic == "slow" for _, topic, _ in lab.plugin("TopicRules").asked))
            slow.send(wire.PINGREQ)
            await slow.expect(wire.PINGRESP)  # whether we live is another question
            slow.send(wire.publish("quick", b"2", qos=1, id=2))
            for id in range(1, 51):
                quick.send(wire.publish("quick", b"%d" % id, qos=1, id=id))
            for id in range(1, 51):
                await quick.expect(wire.puback(id))
                assert (await reader.publication()).payload == b"%d" % id
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(slow.reader.readexactly(1), 0.05)
            lab.plugin("TopicRules").go.set()
            await slow.expect(wire.puback(1), wire.puback(2))  # its own order is kept
            assert [(await reader.publication()).payload for _ in range(2)] == [b"1", b"2"]
