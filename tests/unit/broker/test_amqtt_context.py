"""What amqtt's plugins may do through their context, and the door for connections that someone else accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import BrokerContext
from amqtt.errors import BrokerError

from aldis.config.settings import Limits
from tests import wire
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, Client, Lab, running, until

RECORDER = {ANONYMOUS: {}, f"{PLUGINS}.Recorder": {}}


class TestContext:
    @staticmethod
    def context(lab: Lab) -> BrokerContext:
        found: BrokerContext = lab.plugin("Recorder").context
        return found

    async def test_broadcasting(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client()
            await client.subscribed(("a/+", 1), ("b", 2))
            await self.context(lab).broadcast_message("a/x", b"hi")
            assert await client.publication() == wire.Published("a/x", b"hi", 1, 1)
            await self.context(lab).broadcast_message("b", b"hi", 0)
            assert await client.publication() == wire.Published("b", b"hi")
            assert self.context(lab).retained_messages == {}

    async def test_retaining(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client()
            await client.subscribed(("a", 1))
            await self.context(lab).retain_message("a", b"kept", 1)
            await client.nothing()
            (kept,) = self.context(lab).retained_messages.values()
            assert (kept.topic, kept.data, kept.qos) == ("a", b"kept", 1)
            await client.subscribed(("a", 1))
            assert await client.publication() == wire.Published("a", b"kept", 1, 1, retain=True)
            await self.context(lab).retain_message("a", b"")
            assert self.context(lab).retained_messages == {}

    async def test_looking_around(self) -> None:
        async with running(RECORDER) as lab:
            await (await lab.client("phone", user="ann")).subscribed(("a", 1), ("b/#", 2))
            away = await lab.client("tablet", user="ben", clean=False)
            await away.subscribed(("a", 0))
            away.send(wire.DISCONNECT)
            await away.closed()
            context = self.context(lab)
            states = {one.client_id: (one.username, one.transitions.state) for one in context.sessions}
            assert states == {"phone": ("ann", "connected"), "tablet": ("ben", "disconnected")}
            session = context.get_session("tablet")
            assert session is not None and session.username == "ben"
            assert context.get_session("nobody") is None
            found = {
                filter: sorted((one.client_id or "", qos) for one, qos in subscribed)
                for filter, subscribed in context.subscriptions.items()
            }
            assert found == {"a": [("phone", 1), ("tablet", 0)], "b/#": [("phone", 2)]}

    async def test_subscribing_a_client(self) -> None:
        async with running(RECORDER) as lab:
            client = await lab.client("phone")
            await self.context(lab).retain_message("a/1", b"kept", 0)
            await self.context(lab).add_subscription("phone", "a/+", 1)
            assert (await client.publication()).payload == b"kept"
            await self.context(lab).broadcast_message("a/2", b"live")
            assert (await client.publication()).payload == b"live"
            with pytest.raises(LookupError, match="tablet"):
                await self.context(lab).add_subscription("tablet", "a", 1)


class TestBrokerSysPlugin:
    PATH = "amqtt.plugins.sys.broker.BrokerSysPlugin"

    @pytest.mark.filterwarnings("ignore:`BrokerSysPlugin`:DeprecationWarning")
    async def test_figures_reach_a_subscriber(self) -> None:
        async with running({ANONYMOUS: {}, self.PATH: {"sys_interval": 1}}) as lab:
            client = await lab.client("phone")
            everything = await lab.client("other")
            await everything.subscribed(("#", 0))
            await client.subscribed(("$SYS/#", 0))
            version = await client.publication()
            assert (version.topic, version.retain) == ("$SYS/broker/version", True)
            client.send(wire.publish("a", b"12345", qos=1, id=1))
            await client.expect(wire.puback(1))
            assert (await everything.publication()).topic == "a"
            figures: dict[str, str] = {}
            while "cpu/maximum" not in figures:  # the last one
                found = await client.publication()
                figures[found.topic.removeprefix("$SYS/broker/")] = found.payload.decode()
            assert (figures["clients/connected"], figures["clients/disconnected"]) == ("2", "0")
            assert (figures["messages/publish/received"], figures["messages/publish/sent"]) == ("1", "2")
            assert figures["messages/received"] == "5"
            received = wire.connect("phone") + wire.connect("other") + wire.subscribe(1, ("#", 0))
            received += wire.subscribe(1, ("$SYS/#", 0)) + wire.publish("a", b"12345", qos=1, id=1)
            assert figures["load/bytes/received"] == str(len(received))
            assert figures["messages/subscriptions/count"] == "2"
            await everything.nothing()  # [MQTT-4.7.2-1]


@asynccontextmanager
async def external(limits: Limits | None = None) -> AsyncIterator[tuple[Lab, Any]]:
    """A lab with a listener of type `external`, and a server of somebody else in front of it."""
    served: list[asyncio.StreamWriter] = []
    async with running(limits=limits, listeners={"outside": {"type": "external"}}) as lab:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(writer)
            await lab.connector.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "outside")
            served.remove(writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)

        async def dial() -> Client:
            client = await Client.open(server.sockets[0].getsockname())
            lab.clients.append(client)
            return client

        dial.served = served  # type: ignore[attr-defined]
        try:
            yield lab, dial
        finally:
            server.close()


class TestExternalConnections:
    async def test_they_are_served_like_any_other(self) -> None:
        async with external() as (lab, dial):
            client = await (await dial()).connected("phone", user="ann", clean=False)
            await client.subscribed(("a", 2))
            inside = await lab.client("inside")
            inside.send(wire.publish("a", bytes(200_000), qos=2, id=1))
            await inside.expect(wire.pubrec(1))
            found = await client.publication()
            assert (found.topic, len(found.payload), found.qos) == ("a", 200_000, 2)
            client.send(wire.pubrec(found.id))
            await client.expect(wire.pubrel(found.id))
            client.send(wire.pubcomp(found.id), wire.publish("a", b"", qos=1, id=7))
            assert (await client.publication()).payload == b""
            await client.expect(wire.puback(7))
            for byte in wire.publish("b", bytes(150), qos=1, id=8):
                client.send(bytes((byte,)))
            await client.expect(wire.puback(8))
            client.send(wire.DISCONNECT)
            assert await client.closed() == []
            await until(lambda: not dial.served)
            await (await dial()).connected("phone", answer=wire.RESUMED, user="ann", clean=False)

    async def test_both_ends_may_end_it(self) -> None:
        async with external() as (lab, dial):
            client = await (await dial()).connected("phone", will=wire.Will("w", b"gone"))
            watcher = await lab.client("watcher")
            await watcher.subscribed(("w", 0))
            client.close()
            assert (await watcher.publication()).payload == b"gone"
            client = await (await dial()).connected("phone", will=wire.Will("w", b"thrown out"))
            client.send(b"\x00\x00")
            assert await client.closed() == []
            assert (await watcher.publication()).payload == b"thrown out"
            client = await (await dial()).connected("phone")
            await lab.client("phone")
            assert await client.closed() == []
            client = await dial()
            client.send(wire.connect("phone", protocol=("MQTT", 5)))
            assert await client.closed() == [wire.refused(1)]  # what was said last still arrives
            await until(lambda: not dial.served)

    @pytest.mark.parametrize("data", [b"\x30\x80\x80\x80\x80\x01", b"\x30\xff\xff\xff\x7f", b"\x30\x81\x10"])
    async def test_bad_lengths_end_it(self, data: bytes) -> None:
        async with external(Limits(max_packet_size=1_000, max_message_size=1_000)) as (_, dial):
            client = await (await dial()).connected("phone")
            client.send(data)
            assert await client.closed() == []
            await until(lambda: not dial.served)

    async def test_one_that_does_not_read_piles_up_no_more_than_a_buffer(self) -> None:
        async with external() as (lab, dial):
            slow = await (await dial()).connected("slow")
            await slow.subscribed(("flood", 0))
            (writer,) = dial.served
            slow.writer.transport.pause_reading()
            source = await lab.client("source")
            for _ in range(30):
                source.send(*[wire.publish("flood", bytes(100_000)) for _ in range(10)])
                await source.nothing()
            assert writer.transport.get_write_buffer_size() < 3_000_000

    async def test_one_that_does_not_read_can_be_thrown_out(self) -> None:
        async with external() as (lab, dial):
            slow = await (await dial()).connected("slow")
            await slow.subscribed(("flood", 0))
            slow.writer.transport.pause_reading()
            source = await lab.client("source")
            for _ in range(10):
                source.send(*[wire.publish("flood", bytes(100_000)) for _ in range(10)])
                await source.nothing()
            await lab.client("slow")  # takes over
            await until(lambda: not dial.served)

    async def test_a_listener_that_is_not_there(self) -> None:
        async with running() as lab:
            with pytest.raises(BrokerError, match="nowhere"):
                await lab.connector.external_connected(None, None, "nowhere")  # type: ignore[arg-type]
