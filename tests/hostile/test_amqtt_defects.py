"""What amqtt 0.12.1 does wrong must hold here: one test for each, on the connector that is built on it.

Where other tests look closer they are named. Of some clients at once the conformance suite has more, of amqtt's plugins
`tests/unit/broker/test_amqtt_*.py`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import struct
import time
from pathlib import Path

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from aldis.broker.amqtt_session import ConnectorSession
from aldis.broker.connection import Connection
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, Client, Lab, running, until

USERS = {f"{PLUGINS}.Passwords": {"users": {"ann": "secret", "ben": "other", "slow": "s"}}}
RULES = f"{PLUGINS}.TopicRules"
ACL = "amqtt.plugins.topic_checking.TopicAccessControlListPlugin"
REFUSED = wire.refused(5)


async def refused(lab: Lab, client_id: str, user: str, *more: bytes, **options: object) -> None:
    client = await lab.dial()
    client.send(wire.connect(client_id, user=user, password="wrong", **options), *more)  # type: ignore[arg-type]
    assert await client.closed() == [REFUSED]


# Who is there


async def test_before_authentication_nothing_of_a_session_is_touched() -> None:
    """Neither its queue, nor its live connection, nor its subscriptions, nor its will; clean or not."""
    async with running(USERS) as lab:
        keeper = await lab.client("phone", user="ann", password="secret", clean=False, will=wire.Will("w", b"mine"))
        await keeper.subscribed(("t", 1))
        watcher = await lab.client("watcher", user="ben", password="other")
        await watcher.subscribed(("w", 0))
        for clean in (True, False):
            forged = wire.Will("w", b"forged")
            await refused(lab, "phone", "ann", wire.publish("t", b"forged"), clean=clean, will=forged)
        await keeper.nothing()
        await watcher.nothing()
        keeper.close()
        assert (await watcher.publication()).payload == b"mine"
        watcher.send(wire.publish("t", b"waits", qos=1, id=1))
        await watcher.expect(wire.puback(1))
        await refused(lab, "phone", "ann", clean=True)
        back = await lab.client("phone", answer=wire.RESUMED, user="ann", password="secret", clean=False)
        assert (await back.publication()).payload == b"waits"


async def test_two_users_with_one_client_identifier_never_meet() -> None:
    async with running(USERS) as lab:
        ann = await lab.client("phone", user="ann", password="secret", clean=False)
        ben = await lab.client("phone", user="ben", password="other", clean=False)
        await ann.subscribed(("for/ann", 1))
        await ben.subscribed(("for/ben", 1))
        ann.send(wire.DISCONNECT)
        await ann.closed()
        ben.send(wire.publish("for/ann", b"hers", qos=1, id=1))
        await ben.expect(wire.puback(1))
        await ben.nothing()
        back = await lab.client("phone", answer=wire.RESUMED, user="ann", password="secret", clean=False)
        assert (await back.publication()).payload == b"hers"


async def test_refused_logins_leave_nothing_behind() -> None:
    """Counted as objects; `test_a_flood_of_wrong_passwords` weighs the memory of a whole server."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(one, Connection | ConnectorSession) for one in gc.get_objects())

    limits = Limits(failed_connects_per_minute_per_address=0, failed_connects_per_minute_per_user=0)
    async with running(USERS, limits) as lab:
        await refused(lab, "c", "ann")
        before = alive()
        for number in range(100):
            await refused(lab, f"c{number}", "ann", will=wire.Will("w", bytes(1_000)))
        await until(lambda: not lab.node.connections)
        assert alive() <= before + 1
        assert not lab.node.sessions.subscribers and lab.connector.decisions._users == {}


async def test_no_password_is_logged_not_even_at_debug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor by amqtt's own packet logger."""
    caplog.set_level(logging.DEBUG)
    cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    file = tmp_path / "passwords"
    file.write_text(f"ann:{cheap.hash('opensesame')}\n")
    plugins = {
        "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(file)},
        "amqtt.plugins.logging_amqtt.PacketLoggerPlugin": {},
        "amqtt.plugins.logging_amqtt.EventLoggerPlugin": {},
    }
    async with running(plugins) as lab:
        client = await lab.client("c", user="ann", password="opensesame")
        refusal = await lab.dial()
        refusal.send(wire.connect("d", user="ann", password="hunter2"))
        assert await refusal.closed() == [REFUSED]
        await client.nothing()
    assert "ConnectPacket" in caplog.text
    assert "opensesame" not in caplog.text and "hunter2" not in caplog.text


# Places


@pytest.mark.parametrize("left", ["truncated and reset", "silent"])
async def test_who_never_finishes_connect_does_not_keep_a_place(left: str) -> None:
    """100 places here. `test_limits.py` has the same on a server of five, and how a full one answers."""
    async with running(timeouts=Timeouts(connect=0.5 if left == "silent" else 60)) as lab:
        open_sockets = []
        for _ in range(100):
            one = socket.create_connection(lab.address)
            if left == "truncated and reset":
                one.sendall(wire.connect("client")[:-2])
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.close()
            else:
                open_sockets.append(one)
        if open_sockets:
            await until(lambda: len(lab.node.connections) == len(open_sockets))
        else:
            await asyncio.sleep(0.3)  # nothing tells when the last of them was accepted and found dead
        await until(lambda: not lab.node.connections)
        clients = [await lab.client(f"c{number}") for number in range(50)]
        for client in clients:
            await client.nothing()
        for one in open_sockets:
            one.close()


# Topics


async def test_retained_messages_come_for_new_subscriptions_that_match_only() -> None:
    """Not all of everybody's at connect, and not to those who were subscribed already."""
    async with running() as lab:
        writer = await lab.client("w")
        for topic in ("a/1", "a/2", "b/1"):
            writer.send(wire.publish(topic, topic.encode(), retain=True))
        await writer.nothing()
        reader = await lab.client("r", clean=False)
        await reader.nothing()
        await reader.subscribed(("a/+", 0))
        assert {await reader.publication(), await reader.publication()} == {
            wire.Published("a/1", b"a/1", retain=True),
            wire.Published("a/2", b"a/2", retain=True),
        }
        other = await lab.client("o")
        await other.subscribed(("b/#", 0))
        assert (await other.publication()).topic == "b/1"
        await reader.nothing()
        reader.close()
        back = await lab.client("r", answer=wire.RESUMED, clean=False)
        await back.nothing()


@pytest.mark.filterwarnings("ignore:The 'acl' option:DeprecationWarning")
async def test_a_will_passes_the_same_rules_as_a_publish() -> None:
    lists = {"publish_acl": {"ann": ["w/ann"], "ben": ["w/ben"]}, "acl": {"cyd": ["#"]}}
    async with running({ANONYMOUS: {}, ACL: lists}) as lab:
        watcher = await lab.client("watcher", user="cyd")
        await watcher.subscribed(("#", 0))
        (await lab.client("a", user="ann", will=wire.Will("w/ben", b"forged", retain=True))).close()
        (await lab.client("b", user="ben", will=wire.Will("w/ben", b"his"))).close()
        assert (await watcher.publication()).payload == b"his"
        await watcher.nothing()
        assert lab.node.router.retained.get("w/ben") is None


@pytest.mark.filterwarnings("ignore:The 'acl' option:DeprecationWarning")
async def test_a_list_with_a_plus_does_not_grant_a_hash() -> None:
    """`test_acl_grid.py` has every small filter and list."""
    async with running({ANONYMOUS: {}, ACL: {"acl": {"ann": ["user/+"]}}}) as lab:
        ann = await lab.client("a", user="ann")
        await ann.subscribed(("user/#", 0), ("#", 0), ("user/+/#", 0), ("user/+", 0), codes=(0x80, 0x80, 0x80, 0))


async def test_a_topic_plugin_that_raises_leaves_no_half_dead_connection() -> None:
    """The connection ends unacknowledged; what it sends on its next one is delivered."""
    async with running({ANONYMOUS: {}, RULES: {"raising": ["bad"]}}) as lab:
        reader = await lab.client("r")
        await reader.subscribed(("good", 1))
        client = await lab.client("c")
        client.send(wire.publish("bad", b"1", qos=1, id=1), wire.publish("good", b"2", qos=1, id=2))
        assert await client.closed() == []
        client = await lab.client("c")
        client.send(wire.publish("good", b"3", qos=1, id=3))
        await client.expect(wire.puback(3))
        assert (await reader.publication()).payload == b"3"


async def test_one_slow_look_up_stalls_nobody_else() -> None:
    async with running({**USERS, RULES: {"slow": ["slow"], "seconds": 30}}) as lab:
        reader = await lab.client("r", user="ann", password="secret")
        await reader.subscribed(("quick", 0))
        stuck = await lab.dial()
        stuck.send(wire.connect("s", user="slow", password="s"))  # a slow login, too
        slow, quick = [await lab.client(name, user="ben", password="other") for name in ("x", "y")]
        slow.send(wire.publish("slow", b"", qos=1, id=1))
        for number in range(20):
            quick.send(wire.publish("quick", b"%d" % number))
            assert (await reader.publication()).payload == b"%d" % number
        for name in ("TopicRules", "Passwords"):  # until now neither has answered
            lab.plugin(name).go.set()
        await slow.expect(wire.puback(1))
        await stuck.expect(wire.ACCEPTED)


# Bytes


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_payload_is_never_read_as_packets(qos: int) -> None:
    async with running() as lab:
        reader = await lab.client("r")
        await reader.subscribed(("t", 0))
        payload = wire.publish("t", b"smuggled") + wire.PINGREQ + wire.DISCONNECT
        writer = await lab.client("w")
        writer.send(wire.publish("t", payload, qos=qos, id=7))
        await writer.expect(*{0: [], 1: [wire.puback(7)], 2: [wire.pubrec(7)]}[qos])
        assert (await reader.publication()).payload == payload
        await reader.nothing()
        await writer.nothing()


REMAINING = {
    "PUBACK": wire.puback(1),
    "PUBREC": wire.pubrec(1),
    "PUBREL": wire.pubrel(1),
    "PUBCOMP": wire.pubcomp(1),
    "SUBSCRIBE": wire.subscribe(1, ("t", 0)),
    "UNSUBSCRIBE": wire.unsubscribe(1, "t"),
    "PINGREQ": wire.PINGREQ,
    "DISCONNECT": wire.DISCONNECT,
}


WRONG_LENGTHS = {
    **{f"{name}, one byte more": wire.packet(one[0], one[2:] + b"\0") for name, one in REMAINING.items()},
    **{f"{name}, one byte less": wire.packet(one[0], one[2:-1]) for name, one in REMAINING.items() if one[1]},
}


@pytest.mark.parametrize("bad", WRONG_LENGTHS.values(), ids=WRONG_LENGTHS)
async def test_the_remaining_length_is_what_is_read(bad: bytes) -> None:
    """One byte less or more than the fields need: the connection ends, nothing behind it is taken for a packet."""
    async with running() as lab:
        reader = await lab.client("r")
        await reader.subscribed(("t", 0))
        client = await lab.client("c")
        client.send(bad, wire.publish("t", b"behind"))
        assert await client.closed() == []
        await reader.nothing()


MALFORMED = {
    "bad UTF-8": wire.packet(0x30, wire.text(b"t/\xff")),
    "U+0000": wire.packet(0x30, wire.text(b"t/\0")),
    "QoS 3 in SUBSCRIBE": wire.subscribe(1, ("t", 3)),
    "QoS 3 in PUBLISH": wire.packet(0x36, wire.text("t") + b"\0\1"),
    "packet id 0": wire.publish("t", qos=1, id=0),
    "packet id 0 in SUBSCRIBE": wire.subscribe(0, ("t", 0)),
}


@pytest.mark.parametrize("bad", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_packets_are_refused(bad: bytes) -> None:
    """Six of many: `tests/conformance/test_malformed.py` and `test_sequences.py` have the rest."""
    async with running() as lab:
        client = await lab.client("c")
        client.send(bad, wire.PINGREQ)
        assert await client.closed() == []


# Delivery


async def test_qos_0_is_not_raised_to_the_subscribers() -> None:
    """The lower of both, always [MQTT-3.8.4-6]."""
    async with running() as lab:
        reader, writer = await lab.client("r"), await lab.client("w")
        for granted in (0, 1, 2):
            await reader.subscribed((f"t/{granted}", granted))
            for qos in (0, 1, 2):
                writer.send(wire.publish(f"t/{granted}", b"x", qos=qos, id=1), wire.pubrel(1) if qos == 2 else b"")
                await writer.settled()
                found = await reader.publication()
                assert found.qos == min(granted, qos)
                if found.qos:
                    reader.send((wire.puback if found.qos == 1 else wire.pubrec)(found.id))
                if found.qos == 2:
                    await reader.expect(wire.pubrel(found.id))
                    reader.send(wire.pubcomp(found.id))


@pytest.mark.alone
async def test_keep_alive_is_enforced() -> None:
    """1.5 s after the last sign of life, and not for who pings [MQTT-3.1.2-24]."""
    async with running() as lab:
        watcher = await lab.client("w")
        await watcher.subscribed(("gone", 0))
        silent = await lab.client("s", keep_alive=1, will=wire.Will("gone", b"silent"))
        alive = await lab.client("a", keep_alive=1, will=wire.Will("gone", b"alive"))
        began = time.monotonic()
        ends = asyncio.create_task(silent.closed())
        while not ends.done():
            await alive.nothing()
            await asyncio.sleep(0.2)
        assert 1.4 <= time.monotonic() - began <= 3.0
        assert (await watcher.publication()).payload == b"silent"
        await watcher.nothing()


async def test_what_waits_for_an_absent_device_comes_in_order_without_retain() -> None:
    async with running() as lab:
        reader = await lab.client("r", clean=False)
        await reader.subscribed(("t/#", 1))
        reader.close()
        writer = await lab.client("w")
        for number in range(300):
            writer.send(wire.publish(f"t/{number % 7}", b"%d" % number, qos=1, id=1 + number))
            await writer.expect(wire.puback(1 + number))
        back = await lab.client("r", answer=wire.RESUMED, clean=False)
        for number in range(300):
            found = await back.publication()
            assert (found.payload, found.retain, found.dup) == (b"%d" % number, False, False)
            back.send(wire.puback(found.id))
        await back.nothing()


async def resets(lab: Lab, phone: Client, total: int) -> list[bytes]:
    """Receives, acknowledges 40 ms late, and loses the connection 18 times; what was seen, repeats left out."""
    seen: dict[bytes, None] = {}
    loop = asyncio.get_running_loop()

    async def read(client: Client) -> None:
        while len(seen) < total:
            found = await client.publication()
            seen.setdefault(found.payload)
            loop.call_later(0.04, client.writer.write, wire.puback(found.id))

    for _ in range(18):
        reading = asyncio.create_task(read(phone))
        await asyncio.wait({reading}, timeout=0.06)
        reading.cancel()
        phone.writer.transport.abort()
        phone = await lab.client("phone", answer=wire.RESUMED, clean=False)
    await read(phone)
    return list(seen)


async def test_a_phone_that_acknowledges_late_loses_nothing_over_18_resets() -> None:
    """QoS 1 into a plain persistent session. The inbox has the same over kill -9 in `test_durability.py`."""
    async with running() as lab:
        phone = await lab.client("phone", clean=False)
        await phone.subscribed(("t", 1))
        writer = await lab.client("w")
        total = 600

        async def write() -> None:
            for number in range(total):
                writer.send(wire.publish("t", b"%d" % number, qos=1, id=1 + number))
                await writer.expect(wire.puback(1 + number))
                await asyncio.sleep(0.001)

        writing = asyncio.create_task(write())
        seen = await resets(lab, phone, total)
        await writing
        assert seen == [b"%d" % number for number in range(total)]
