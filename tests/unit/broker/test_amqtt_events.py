"""amqtt's events through a real connector: each once, with what amqtt says; and nothing at all for nobody."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from amqtt.events import BrokerEvents

from aldis.broker import amqtt_plugins
from aldis.broker.amqtt_events import Reframer, decode_packets
from tests import wire
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, Lab, Plugins, running, until

RECORDER: Plugins = {ANONYMOUS: {}, f"{PLUGINS}.Recorder": {}}


async def heard(lab: Lab, name: str, count: int = 1) -> list[dict[str, Any]]:
    """Waits until the recorder has heard of the event this many times; more would be a fault."""
    recorder = lab.plugin("Recorder")
    await until(lambda: len(recorder.heard(name)) >= count)
    await asyncio.sleep(0.01)
    found: list[dict[str, Any]] = recorder.heard(name)
    assert len(found) == count
    return found


class TestBrokerEvents:
    async def test_the_life_of_a_client(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client("phone", user="ann", keep_alive=60)
            (event,) = await heard(lab, "client_connected")
            session = event["session"]
            assert (event["client_id"], session.client_id, session.username) == ("phone", "phone", "ann")
            assert (session.clean_session, session.keep_alive) == (True, 60)
            assert session.transitions.is_connected()
            client.send(wire.subscribe(1, ("a/+", 1), ("b", 2), ("bad/filter/\ufffe", 0)))
            await client.expect(wire.suback(1, 1, 2, 0))
            client.send(wire.unsubscribe(2, "b", "never/there"))
            await client.expect(wire.unsuback(2))
            assert await heard(lab, "client_unsubscribed") == [{"client_id": "phone", "topic": "b"}]
            subscribed = await heard(lab, "client_subscribed", 3)
            assert [(one["client_id"], one["topic"], one["qos"]) for one in subscribed[:2]] == [
                ("phone", "a/+", 1),
                ("phone", "b", 2),
            ]
            client.send(wire.DISCONNECT)
            await client.closed()
            (event,) = await heard(lab, "client_disconnected")
            assert event["client_id"] == "phone"
            assert event["session"] is session
            assert not session.transitions.is_connected()

    async def test_who_was_never_let_in_is_never_reported(self) -> None:
        async with running({f"{PLUGINS}.Passwords": {}, f"{PLUGINS}.Recorder": {}}) as lab:
            client = await lab.dial()
            client.send(wire.connect("c", user="ann", password="wrong"))
            assert await client.closed() == [wire.refused(5)]
            names = {name for name, _ in lab.plugin("Recorder").events}
            assert not names & {"client_connected", "client_disconnected"}

    async def test_a_take_over_is_one_end_and_one_beginning(self) -> None:
        async with running(RECORDER) as lab:
            first = await lab.client("phone", clean=False)
            await lab.client("phone", answer=wire.RESUMED, clean=False)
            assert await first.closed() == []
            await heard(lab, "client_connected", 2)
            await heard(lab, "client_disconnected")
            order = [name for name, _ in lab.plugin("Recorder").events if name.startswith("client")]
            assert order == ["client_connected", "client_disconnected", "client_connected"]

    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_a_message(self, qos: int) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client("phone")
            client.send(wire.publish("a/b", b"hi", qos=qos, id=9, retain=True), wire.pubrel(9) if qos == 2 else b"")
            await client.settled()
            for name in ("message_received", "message_broadcast"):
                (event,) = await heard(lab, name)
                message = event["message"]
                assert event["client_id"] == "phone"
                assert (message.topic, message.data, message.qos, message.retain) == ("a/b", b"hi", qos, True)
                assert message.packet_id == (9 if qos else None)
                assert message.publish_packet.retain_flag
                assert message.publish_packet.topic_name == "a/b"
            (event,) = await heard(lab, "retained_message")
            assert event["client_id"] is None
            assert (event["message"].topic, event["message"].data, event["message"].qos) == ("a/b", b"hi", qos)

    async def test_what_is_no_longer_retained_is_told_with_an_empty_payload(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client()
            for payload in (b"", b"x", b"", b""):
                client.send(wire.publish("a", payload, retain=True))
            await client.nothing()
            events = await heard(lab, "retained_message", 2)
            assert [event["message"].data for event in events] == [b"x", b""]

    async def test_a_refused_message_is_received_but_not_broadcast(self) -> None:
        rules = {f"{PLUGINS}.TopicRules": {"denied": {"publish": ["ann"]}}}
        async with running({**RECORDER, **rules}) as lab:
            client = await lab.client(user="ann")
            client.send(wire.publish("a", b"x", qos=1, id=1))
            await client.expect(wire.puback(1))
            await heard(lab, "message_received")
            assert lab.plugin("Recorder").heard("message_broadcast") == []

    async def test_a_plugin_that_raises_at_an_event_changes_nothing(self) -> None:
        async with running({ANONYMOUS: {}, f"{PLUGINS}.FailingListener": {}, f"{PLUGINS}.Recorder": {}}) as lab:
            client = await lab.client()
            await client.subscribed(("a", 0))
            client.send(wire.publish("a", b"x", qos=1, id=1))
            assert (await client.publication()).payload == b"x"
            await client.expect(wire.puback(1))
            await heard(lab, "message_received")


class TestPacketEvents:
    async def test_every_packet_once_and_in_order(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client("phone", user="ann", password="secret")
            client.send(wire.subscribe(3, ("a", 1)), wire.publish("a", b"x", qos=1, id=4), wire.PINGREQ)
            await client.expect(wire.suback(3, 1), wire.publish("a", b"x", qos=1, id=1), wire.puback(4), wire.PINGRESP)
            client.send(wire.puback(1), wire.unsubscribe(5, "a"))
            await client.expect(wire.unsuback(5))
            client.send(wire.DISCONNECT)
            await client.closed()
            received = [event["packet"] for event in await heard(lab, "packet_received", 7)]
            assert [type(packet).__name__ for packet in received] == [
                "ConnectPacket",
                "SubscribePacket",
                "PublishPacket",
                "PingReqPacket",
                "PubackPacket",
                "UnsubscribePacket",
                "DisconnectPacket",
            ]
            assert received[2].data == b"x" and received[2].packet_id == 4
            sent = [event["packet"] for event in await heard(lab, "packet_sent", 6)]
            assert [type(packet).__name__ for packet in sent] == [
                "ConnackPacket",
                "SubackPacket",
                "PublishPacket",
                "PubackPacket",
                "PingRespPacket",
                "UnsubackPacket",
            ]
            sessions = [event["session"] for name, event in lab.plugin("Recorder").events if name.startswith("packet")]
            assert {session.client_id for session in sessions[1:]} == {"phone"}

    async def test_a_packet_that_comes_in_pieces_is_one_packet(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client()
            data = wire.publish("a", bytes(300), qos=1, id=1) + wire.PINGREQ
            for place in range(0, len(data), 37):
                client.send(data[place : place + 37])
                await client.writer.drain()
                await asyncio.sleep(0.001)
            await client.expect(wire.puback(1), wire.PINGRESP)
            packets = [event["packet"] for event in await heard(lab, "packet_received", 3)]
            assert packets[1].data == bytes(300)

    async def test_no_password_reaches_a_packet_event(self) -> None:
        async with running({f"{PLUGINS}.Passwords": {"users": {"ann": "secret"}}, f"{PLUGINS}.Recorder": {}}) as lab:
            await lab.client(user="ann", password="secret")
            refused = await lab.dial()
            refused.send(wire.connect("c", user="ben", password="secret"))
            await refused.closed()
            for event in await heard(lab, "packet_received", 2):
                packet = event["packet"]
                assert packet.payload.client_id == "c" and packet.payload.username in ("ann", "ben")
                assert packet.payload.password is None
                assert "secret" not in repr(packet) and b"secret" not in packet.to_bytes()

    async def test_malformed_bytes_are_no_event_and_no_noise(self, caplog: pytest.LogCaptureFixture) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client()
            client.send(wire.PINGREQ + b"\x36\x05\x00\x01a\x00\x01")
            assert await client.closed() == [wire.PINGRESP]
            other = await lab.dial()
            other.send(wire.packet(0x10, wire.text("MQTT") + b"\x04\xc2\x00\x00" + b"\x00\x01c\x00\x09secret"))
            assert await other.closed() == []
            await lab.client("d")
            kinds = [type(event["packet"]).__name__ for event in lab.plugin("Recorder").heard("packet_received")]
            assert kinds == ["ConnectPacket", "PingReqPacket", "ConnectPacket"]
        assert "Traceback" not in caplog.text and "secret" not in caplog.text


class TestReframer:
    async def test_any_pieces_give_the_same_packets(self) -> None:
        data = wire.connect("c", user="u", password="secret") + wire.publish("a", bytes(200)) + wire.PINGREQ
        for size in (1, 2, 3, 7, 50, 1_000):
            reframer = Reframer()
            packets = []
            for place in range(0, len(data), size):
                packets += await decode_packets(reframer.feed(data[place : place + size]))
            assert [type(packet).__name__ for packet in packets] == ["ConnectPacket", "PublishPacket", "PingReqPacket"]
            assert packets[1].data == bytes(200)


class TestLoggers:
    async def test_event_logger(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with running({ANONYMOUS: {}, "amqtt.plugins.logging_amqtt.EventLoggerPlugin": {}}) as lab:
            client = await lab.client()
            await client.subscribed(("a", 0))
            client.send(wire.publish("a", b"x", retain=True), wire.unsubscribe(2, "a"))
            await client.settled()
            client.close()
            await until(lambda: not lab.node.connections)
        for event in BrokerEvents:
            assert caplog.text.count(f"'on_{event}' EVENT FIRED") == 1, event

    async def test_packet_logger(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with running({ANONYMOUS: {}, "amqtt.plugins.logging_amqtt.PacketLoggerPlugin": {}}) as lab:
            await (await lab.client("phone")).nothing()
            await until(lambda: "PingRespPacket" in caplog.text)
        for line in ("phone <-in-- PingReqPacket", "phone -out-> PingRespPacket", "phone -out-> ConnackPacket"):
            assert line in caplog.text


class TestNobodyListens:
    async def traffic(self, lab: Lab) -> None:
        client = await lab.client("phone", clean=False)
        await client.subscribed(("a", 1))
        for qos in (0, 1, 2):
            client.send(wire.publish("a", b"x", qos=qos, id=1, retain=True), wire.pubrel(1) if qos == 2 else b"")
            assert len(await client.settled()) == 1 + qos
        client.send(wire.unsubscribe(2, "a"), wire.DISCONNECT)
        await client.closed()

    async def test_then_no_event_is_even_built(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def built(*_: object, **__: object) -> None:
            raise AssertionError("an event was built for nobody")

        for name in ("application_message", "decode_packets", "RetainedApplicationMessage", "Reframer"):
            monkeypatch.setattr(amqtt_plugins, name, built)
        async with running() as lab:
            with monkeypatch.context() as patch:
                patch.setattr(lab.connector.plugins_manager, "fire_event", built)
                await self.traffic(lab)
            assert lab.node.stages == []
            assert lab.node.publish_gate is None
            assert (lab.node.packets_received, lab.node.packets_sent, lab.node.router.on_retained) == (None, None, None)

    async def test_the_same_traffic_with_a_listener_builds_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that the test above is known to look in the right place."""
        found: list[str] = []
        for name in ("application_message", "decode_packets", "RetainedApplicationMessage", "Reframer"):
            original = getattr(amqtt_plugins, name)
            monkeypatch.setattr(
                amqtt_plugins, name, lambda *given, _name=name, _it=original: found.append(_name) or _it(*given)
            )
        async with running(RECORDER) as lab:
            await self.traffic(lab)
            await heard(lab, "client_disconnected")
        assert set(found) == {"application_message", "decode_packets", "RetainedApplicationMessage", "Reframer"}

    async def test_a_plugin_without_events_costs_an_idle_connection_no_session_object(self) -> None:
        async with running() as lab:
            await (await lab.client()).nothing()
            (connection,) = lab.node.connections
            assert connection.plugin_session is None
