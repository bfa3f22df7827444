"""The way of a PUBLISH through the stages: in order, answered once, in its turn, whatever becomes of its connection."""

from __future__ import annotations

import pytest

from aldis.broker.core.envelope import Reason
from aldis.broker.pipeline import Publication
from aldis.config.settings import Limits
from tests import wire
from tests.unit.broker.lab import Client, Lab, running, until


class Stages:
    """Two stages: the first holds back what is published to `held/…`, the second writes down what it sees."""

    def __init__(self, lab: Lab) -> None:
        self.held: list[Publication] = []
        self.seen: list[str] = []
        lab.node.stages = [self.hold, self.note]

    def hold(self, publication: Publication) -> bool:
        if publication.levels[0] == "held":
            self.held.append(publication)
            return False
        if publication.levels[0] == "broken":
            raise RuntimeError("a defect in a stage")
        return True

    def note(self, publication: Publication) -> bool:
        self.seen.append(publication.message.topic)
        return True


def acknowledgement(qos: int, id: int) -> bytes:
    return wire.puback(id) if qos == 1 else wire.pubrec(id)


async def subscribed(lab: Lab) -> Client:
    return await (await lab.client("reader")).subscribed(("#", 0))


@pytest.mark.parametrize("qos", [1, 2])
async def test_mqtt_4_6_0_2_acknowledgements_wait_for_their_turn(qos: int) -> None:
    async with running() as lab:
        stages, reader = Stages(lab), await subscribed(lab)
        client = await lab.client("c")
        for id, topic in ((1, "free"), (2, "held/a"), (3, "free"), (4, "held/b"), (5, "free")):
            client.send(wire.publish(topic, b"%d" % id, qos=qos, id=id))
        assert await client.settled() == [acknowledgement(qos, 1)]
        assert [(await reader.publication()).payload for _ in range(3)] == [b"1", b"3", b"5"]
        second, first = stages.held[1], stages.held[0]
        second.proceed()
        await client.nothing()
        first.proceed()
        assert await client.settled() == [acknowledgement(qos, id) for id in (2, 3, 4, 5)]
        assert [(await reader.publication()).payload for _ in range(2)] == [b"4", b"2"]
        assert stages.seen == ["free", "free", "free", "held/b", "held/a"]


async def test_settled_without_going_on_reaches_nobody_and_is_acknowledged_once() -> None:
    async with running() as lab:
        stages, reader = Stages(lab), await subscribed(lab)
        client = await lab.client("c")
        client.send(wire.publish("held/a", b"x", qos=1, id=1))
        await client.nothing()
        for _ in range(2):
            stages.held[0].settle()
        assert await client.settled() == [wire.puback(1)]
        await reader.nothing()
        assert stages.seen == []


async def test_a_rejected_publish_is_acknowledged_and_reported_if_wanted() -> None:
    async with running() as lab:
        stages = Stages(lab)
        for user in ("ann", None):
            client = await lab.client("c", user=user)
            await client.subscribed(("inbox/ann/receipt/+", 1))
            client.send(wire.publish("held/a", b"x", qos=1, id=1))
            await client.nothing()
            stages.held.pop().reject(Reason.RATE, '"m"')
            if user:
                receipt = await client.publication()
                assert receipt.topic == "inbox/ann/receipt/$server"
                assert receipt.document == {"type": "failed", "id": "m", "reason": "rate", "topic": "held/a"}
            await client.expect(wire.puback(1))


async def test_what_is_abandoned_is_never_acknowledged_nor_what_came_after_it() -> None:
    async with running() as lab:
        stages = Stages(lab)
        client = await lab.client("c", clean=False)
        client.send(wire.publish("held/a", b"x", qos=2, id=1), wire.publish("free", b"y", qos=1, id=2))
        await client.nothing()
        stages.held.pop().abandon()
        await client.nothing()
        again = await lab.client("c", answer=wire.RESUMED, clean=False)
        again.send(wire.publish("held/a", b"x", qos=2, id=1, dup=True))
        await again.nothing()
        assert len(stages.held) == 1  # it counts as new
        stages.held.pop().proceed()
        await again.expect(wire.pubrec(1))


async def test_mqtt_4_3_3_a_publish_goes_on_without_its_connection_and_answers_the_next_one() -> None:
    async with running() as lab:
        stages, reader = Stages(lab), await subscribed(lab)
        client = await lab.client("c", clean=False)
        client.send(wire.publish("held/a", b"x", qos=2, id=1))
        await client.nothing()
        for _ in range(3):
            again = await lab.client("c", answer=wire.RESUMED, clean=False)
            again.send(wire.publish("held/a", b"x", qos=2, id=1, dup=True))
            await again.nothing()
        (publication,) = stages.held
        assert len(publication._shared or ()) == 1  # nobody is kept whose connection has ended
        publication.proceed()
        await again.expect(wire.pubrec(1))
        assert (await reader.publication()).payload == b"x"
        await reader.nothing()
        again.send(wire.pubrel(1))
        await again.expect(wire.pubcomp(1))


async def test_followers_share_the_outcome_of_the_first() -> None:
    async with running() as lab:
        stages = Stages(lab)
        client = await lab.client("c", user="ann")
        for outcome in ("reject", "abandon"):
            for id in (1, 2, 3):
                client.send(wire.publish("held/a", b"x", qos=1, id=id))
            await client.nothing()
            first, *others = stages.held
            for other in others:
                other.follow(first)
            stages.held.clear()
            if outcome == "reject":
                first.reject(Reason.RATE)
                assert await client.settled() == [wire.puback(id) for id in (1, 2, 3)]
            else:
                first.abandon()
                await client.nothing()


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_stage_that_raises_ends_this_connection_only(qos: int, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as lab:
        stages, reader = Stages(lab), await subscribed(lab)
        client = await lab.client("c", clean=False)
        client.send(wire.publish("broken", b"secret payload", qos=qos, id=1), wire.publish("free", b"y", qos=1, id=2))
        assert await client.closed() == []
        await reader.nothing()
        assert "a defect in a stage" in caplog.text and "secret payload" not in caplog.text
        lab.node.stages = [stages.note]
        again = await lab.client("c", answer=wire.RESUMED, clean=False)
        again.send(wire.publish("broken", b"x", qos=qos, id=1, dup=qos > 0))
        assert await again.settled() == ([acknowledgement(qos, 1)] if qos else [])
        assert (await reader.publication()).payload == b"x"


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_client_is_read_no_further_than_its_unacknowledged_limit(qos: int) -> None:
    async with running(limits=Limits(max_unacknowledged=5)) as lab:
        stages = Stages(lab)
        client = await lab.client("c")
        for id in range(1, 200):
            client.send(wire.publish("held/a", bytes(20_000), qos=qos, id=id))
        await until(lambda: len(stages.held) >= 5)
        (connection,) = lab.node.connections
        held = len(stages.held)
        assert len(connection.acks) == held < 60  # one read of the socket may bring more, but no second one
        for publication in stages.held[:]:
            publication.settle()
        await until(lambda: len(stages.held) > held)
        while len(stages.held) < 199:
            waiting = [one for one in stages.held if not one.settled]
            for publication in waiting:
                publication.settle()
            await until(lambda: len(stages.held) == 199 or any(not one.settled for one in stages.held))
        for publication in stages.held:
            publication.settle()
        answers = await client.settled()
        assert answers == ([acknowledgement(qos, id) for id in range(1, 200)] if qos else [])


async def test_without_any_stage_a_publish_is_answered_at_once() -> None:
    async with running() as lab:
        reader = await subscribed(lab)
        client = await lab.client("c")
        for qos in (0, 1, 2):
            client.send(wire.publish("a", b"%d" % qos, qos=qos, id=7))
            assert await client.settled() == ([acknowledgement(qos, 7)] if qos else [])
            assert (await reader.publication()).payload == b"%d" % qos
