"""Authentication by amqtt's plugins through a real connector: who is let in, and what a plugin gets to see."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from tests import wire
from tests.unit.broker.lab import ANONYMOUS, PLUGINS, Lab, running, until

FILE = "amqtt.plugins.authentication.FileAuthPlugin"
NOT_AUTHORISED = wire.refused(5)
UNAVAILABLE = wire.refused(3)
USERS = {f"{PLUGINS}.Passwords": {"users": {"ann": "secret", "slow": "s"}}}


@pytest.fixture(scope="module")
def passwords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """argon2, as amqtt's documentation has it, only cheap."""
    hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    file = tmp_path_factory.mktemp("users") / "passwords"
    file.write_text(f"# users\nann:{hasher.hash('secret')}\nben:{hasher.hash('other')}\n")
    return file


async def refused(lab: Lab, code: bytes, client_id: str = "c", **options: Any) -> None:
    """The CONNECT is answered with this code, and then the connection is closed [MQTT-3.2.2-5]."""
    client = await lab.dial()
    client.send(wire.connect(client_id, **options))
    assert await client.closed() == [code]


class TestFileAuthPlugin:
    async def test_good_and_bad_passwords(self, passwords: Path) -> None:
        async with running({FILE: {"password_file": str(passwords)}}) as lab:
            await (await lab.client("a", user="ann", password="secret")).nothing()
            await (await lab.client("b", user="ben", password="other")).nothing()
            for user, password in (("ann", "other"), ("ann", ""), ("ben", "secret"), ("cyd", "secret")):
                await refused(lab, NOT_AUTHORISED, user=user, password=password)
            await refused(lab, NOT_AUTHORISED, user="ann")
            await refused(lab, NOT_AUTHORISED)  # no user name, no opinion of this plugin: nobody is for it
            assert len(lab.node.connections) == 2

    async def test_a_password_that_is_no_text_is_refused(self, passwords: Path) -> None:
        async with running({FILE: {"password_file": str(passwords)}}) as lab:
            client = await lab.dial()
            body = wire.text("MQTT") + b"\x04\xc2\x00\x00" + wire.text("c") + wire.text("ann") + wire.text(b"\xff\xfe")
            client.send(wire.packet(0x10, body))
            assert await client.closed() == [NOT_AUTHORISED]


class TestAnonymousAuthPlugin:
    async def test_allowing(self) -> None:
        async with running({ANONYMOUS: {"allow_anonymous": True}}) as lab:
            await lab.client("a")
            await lab.client("b", user="anybody")

    async def test_refusing(self) -> None:
        """amqtt's own rule: with a user name one is not anonymous, whatever the password. It needs a second plugin."""
        async with running({ANONYMOUS: {"allow_anonymous": False}}) as lab:
            await refused(lab, NOT_AUTHORISED)
            await lab.client("b", user="anybody")
        async with running({ANONYMOUS: {"allow_anonymous": False}, **USERS}) as lab:
            await refused(lab, NOT_AUTHORISED, user="anybody", password="x")
            await lab.client("b", user="ann", password="secret")


class TestSeveralPlugins:
    async def test_all_that_have_an_opinion_must_agree_and_one_must_have_one(self) -> None:
        async with running({ANONYMOUS: {"allow_anonymous": True}, **USERS}) as lab:
            await refused(lab, NOT_AUTHORISED)  # one for, one against
            await lab.client("a", user="ann", password="secret")
            await lab.client("b", user="stranger")  # one for, one without an opinion
        async with running(USERS) as lab:
            await refused(lab, NOT_AUTHORISED, user="stranger")  # nobody has an opinion

    async def test_no_plugin_at_all_lets_nobody_in(self) -> None:
        async with running({}) as lab:
            await refused(lab, NOT_AUTHORISED, user="ann", password="secret")


class TestTrouble:
    async def test_a_plugin_that_raises_refuses_this_client_and_disturbs_no_other(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with running(USERS) as lab:
            other = await lab.client("a", user="ann", password="secret")
            await refused(lab, UNAVAILABLE, user="trouble", password="hunter2")
            await other.nothing()
            await lab.client("b", user="ann", password="secret")
        assert "the user database is on fire" in caplog.text
        assert "hunter2" not in caplog.text

    async def test_a_slow_plugin_holds_up_its_own_client_only(self) -> None:
        async with running(USERS) as lab:
            slow = await lab.dial()
            slow.send(wire.connect("s", user="slow", password="s"), wire.publish("t", b"x", qos=1, id=9), wire.PINGREQ)
            other = await lab.client("a", user="ann", password="secret")
            await other.subscribed(("t", 1))
            assert lab.node.router.route("t")
            await other.nothing()
            assert sum(connection.session is not None for connection in lab.node.connections) == 1
            lab.plugin("Passwords").go.set()
            # what came behind the CONNECT waited for it, in order
            await slow.expect(wire.ACCEPTED, wire.puback(9), wire.PINGRESP)
            assert (await other.publication()).payload == b"x"

    async def test_who_leaves_while_the_plugin_thinks_leaves_nothing_behind(self) -> None:
        async with running(USERS) as lab:
            client = await lab.dial()
            client.send(wire.connect("s", user="slow", password="s"))
            await until(lambda: len(lab.plugin("Passwords").asked) == 1)
            client.close()
            lab.plugin("Passwords").go.set()
            await until(lambda: not lab.node.connections)
            assert not lab.node.sessions.subscribers
            assert lab.connector.decisions._users == {}

    async def test_nothing_of_a_session_is_touched_before_its_owner_has_proved_himself(self) -> None:
        """The worst of amqtt: there a CONNECT with a wrong password wipes or hijacks the queue, and fires the will."""
        async with running(USERS) as lab:
            keeper = await lab.client("phone", user="ann", password="secret", clean=False)
            await keeper.subscribed(("t", 1), ("w", 0))
            for clean in (True, False):
                for user in ("ann", "ben", "trouble", "stranger"):
                    will = wire.Will("w", b"forged")
                    code = UNAVAILABLE if user == "trouble" else NOT_AUTHORISED
                    await refused(lab, code, "phone", user=user, password="wrong", clean=clean, will=will)
            await keeper.nothing()
            keeper.send(wire.publish("t", b"mine", qos=1, id=1))
            assert (await keeper.publication()).payload == b"mine"


class TestWhatAPluginSees:
    async def test_the_whole_of_the_connect(self) -> None:
        async with running({f"{PLUGINS}.Passwords": {"users": {"ann": "pässword"}}}) as lab:
            await lab.client(
                "phone", user="ann", password="pässword", keep_alive=30, will=wire.Will("w", b"bye", 1, True)
            )
            (asked,) = lab.plugin("Passwords").asked
        assert asked == {"client_id": "phone", "username": "ann", "password": "pässword", "will_topic": "w"}

    async def test_the_password_is_forgotten_once_it_was_judged(self) -> None:
        async with running({**USERS, f"{PLUGINS}.Recorder": {}}) as lab:
            await lab.client("phone", user="ann", password="secret")
            (event,) = lab.plugin("Recorder").heard("client_connected")
            session = event["session"]
            assert (session.username, session.client_id, session.password) == ("ann", "phone", None)
            assert (
                session.remote_address == "127.0.0.1"
                and session.remote_port == lab.clients[0].writer.get_extra_info("sockname")[1]
            )

    async def test_no_password_in_any_log(self, passwords: Path, caplog: pytest.LogCaptureFixture) -> None:
        """amqtt's packet logger writes passwords down at DEBUG; not those of our clients."""
        caplog.set_level(logging.DEBUG)
        logger = "amqtt.plugins.logging_amqtt.PacketLoggerPlugin"
        async with running({FILE: {"password_file": str(passwords)}, logger: {}}) as lab:
            await lab.client("a", user="ann", password="secret")
            await refused(lab, NOT_AUTHORISED, user="ben", password="hunter2")
            await lab.clients[0].nothing()
        assert "-in--" in caplog.text and "-out->" in caplog.text
        assert "ConnectPacket" in caplog.text
        assert "secret" not in caplog.text and "hunter2" not in caplog.text
