"""A session belongs to (user, client identifier): two users with one client identifier never meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from tests.servers import Aldis, profile, running
from tests.wire import ACCEPTED, RESUMED, Client, Will, connect, publish, refused

As = Callable[..., Client]
SECRETS = {"ada": "ada's password", "grace": "grace's password"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    """A plain broker with amqtt's own password file."""
    folder = tmp_path_factory.mktemp("identity")
    cheap = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
    passwords = folder / "passwords"
    passwords.write_text("".join(f"{user}:{cheap.hash(secret)}\n" for user, secret in SECRETS.items()))
    plugins = {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)}}
    with running(folder, profile(folder / "passwords.yaml", "lab", plugins)) as one:
        yield one


@pytest.fixture
def connected(server: Aldis) -> Iterator[As]:
    """Connects as a user, with the right password."""
    opened: list[Client] = []

    def as_user(user: str, client_id: str, answer: bytes = ACCEPTED, **options: Any) -> Client:
        opened.append(server.tcp())
        return opened[-1].connected(client_id, answer, user=user, password=SECRETS[user], **options)

    yield as_user
    for client in opened:
        client.close()


def test_two_users_with_one_client_identifier_are_two_clients(connected: As, unique: str) -> None:
    """No take-over, no common session, no common messages, one's own packet ids."""
    ada = connected("ada", unique, clean=False).subscribed((f"{unique}/ada", 1))
    grace = connected("grace", unique, clean=False).subscribed((f"{unique}/grace", 1))
    ada.nothing()
    ada.published(f"{unique}/grace", b"to grace")
    assert grace.take().payload == b"to grace"
    grace.published(f"{unique}/ada", b"to ada")
    assert ada.take().payload == b"to ada"
    grace.disconnect()
    ada.published(f"{unique}/grace", b"waits")
    connected("ada", unique, RESUMED, clean=False).nothing()
    assert connected("grace", unique, RESUMED, clean=False).take().payload == b"waits"


def test_a_clean_session_of_one_leaves_the_other_alone(connected: As, unique: str) -> None:
    connected("ada", unique, clean=False).subscribed((unique, 1)).disconnect()
    other = connected("grace", "other")
    other.published(unique, b"waits")
    connected("grace", unique, clean=True).subscribed((unique, 1)).nothing()
    assert connected("ada", unique, RESUMED, clean=False).take().payload == b"waits"


@pytest.mark.parametrize(
    "credentials",
    [{}, {"user": "ada"}, {"user": "ada", "password": "wrong"}, {"user": "nobody", "password": "ada's password"}],
    ids=["none", "no password", "wrong password", "wrong user"],
)
def test_mqtt_3_1_4_who_is_refused_has_touched_nothing(
    server: Aldis, connected: As, unique: str, credentials: dict[str, str]
) -> None:
    """Neither the session it named, nor the live connection, nor a will; and what it sent along is not read."""
    ada = connected("ada", unique, clean=False, will=Will(unique, b"ada's will", 1)).subscribed((unique, 1))
    for clean in (True, False):
        intruder = server.tcp()
        will = Will(unique, b"forged", 1, retain=True)
        intruder.send(connect(unique, clean=clean, will=will, **credentials), publish(unique, b"forged", qos=1, id=1))
        assert intruder.closed() == [refused(5)]
    ada.nothing()
    ada.close()
    assert connected("ada", unique, RESUMED, clean=False).take().payload == b"ada's will"
