"""Who connects, and who only says so: tokens, logout, client identifiers, and CONNECTs that fail."""

from __future__ import annotations

import jwt
import pytest

from aldis.accounts_api.secrets_file import load_or_make
from aldis.bridge.credentials import AccessTokens
from tests.people import Device, Person, bodies, people
from tests.servers import Aldis
from tests.wire import (
    RESUMED,
    Will,
    connect,
    publish,
    refused,
)

pytestmark = pytest.mark.usefixtures("others")


def refusal(server: Aldis, user: str, device: str, password: str | None) -> list[bytes]:
    with server.tcp() as client:
        client.send(connect(device, user=user, password=password))
        said = client.closed()
        assert "connection ended: CONNECT refused" in server.end_of(client)
        return said


def test_wrong_credentials(embedded: Aldis, crowd: list[Person]) -> None:
    ada, bob, _ = crowd
    right = ada.token("phone")
    secrets = load_or_make(embedded.data / "secrets.json")
    claims = jwt.decode(right, options={"verify_signature": False})
    header, payload, signature = right.split(".")
    bound = {"user": ada.user, "device": "phone", "session": claims["sid"]}
    now = claims["iat"] * 1000
    expired = AccessTokens(secrets.signing_key).issue(**bound, now_ms=now - 60_000, lifetime=59)
    forged = AccessTokens(b"k" * 32).issue(**bound, now_ms=now, lifetime=9_999)
    good = AccessTokens(secrets.signing_key).issue(**bound, now_ms=now, lifetime=9_999)
    for password in (
        None,
        "",
        "wrong",
        "correct horse battery",  # the password of the login is none for MQTT
        bob.token("phone"),
        ada.token("tablet"),
        expired,
        forged,
        f"{header}.{payload}.{signature[:-4]}AAAA",
        jwt.encode(claims, None, algorithm="none", headers={"typ": "at+jwt"}),
        jwt.encode(claims, secrets.signing_key, algorithm="HS256"),  # not the right type of token
        "aldis_dt_" + "x" * 43,
        "x" * 60_000,
    ):
        assert refusal(embedded, ada.user, "phone", password) == [refused(5)]
    assert refusal(embedded, bob.user, "phone", right) == [refused(5)]
    assert refusal(embedded, "", "phone", right) == [refused(5)]
    for password in (right, good):  # the counter-check: made the same way, but in time and with the server's key
        with embedded.tcp() as client:
            client.connected("phone", user=ada.user, password=password)


def test_logout_disconnects(embedded: Aldis) -> None:
    """That device at once; the user's others stay. The same token opens nothing any more."""
    (carol,) = people(embedded, "carol")
    with carol.online("phone") as phone, carol.online("tablet") as tablet:
        carol.rest("POST", "/v1/logout", device="phone")
        phone.closed()
        assert "connection ended: access revoked" in embedded.end_of(phone)
        assert refusal(embedded, carol.user, "phone", carol.token("phone")) == [refused(5)]
        tablet.caught_up()
        carol.rest("DELETE", "/v1/devices/tablet", device="tablet")
        tablet.closed()
        assert "connection ended: access revoked" in embedded.end_of(tablet)


def test_a_revoked_device_token_disconnects(embedded: Aldis) -> None:
    (carol,) = people(embedded, "carol")
    made = carol.rest("POST", "/v1/tokens", {"device_id": "sensor", "name": "in the garden"})
    with embedded.tcp() as sensor:
        sensor.connected("sensor", user=carol.user, password=made["token"])
        sensor.nothing()
        assert refusal(embedded, carol.user, "another", made["token"]) == [refused(5)]
        carol.rest("DELETE", f"/v1/tokens/{made['token_id']}")
        sensor.closed()
    assert refusal(embedded, carol.user, "sensor", made["token"]) == [refused(5)]


def test_two_users_with_one_client_identifier(ada: Device, bob: Device) -> None:
    """Both are `phone`: no take-over, and each message reaches the inbox it was sent to."""
    assert ada.device == bob.device
    with ada.person.dial("phone2", clean=False) as first, bob.person.dial("phone2", clean=False) as second:
        first.subscribed((f"devices/{ada.user}/#", 1))
        second.subscribed((f"devices/{bob.user}/#", 1))
        ada.published(f"devices/{ada.user}/x", b"ada's")
        assert first.take().payload == b"ada's"
        second.nothing()
        first.disconnect()
        second.nothing()
        second.disconnect()
    with ada.person.dial("phone2", clean=False, answer=RESUMED) as first:
        first.nothing()


def test_who_fails_to_authenticate_has_touched_nothing(embedded: Aldis, crowd: list[Person], bob: Device) -> None:
    """2,000 failing CONNECTs name a session that has a queue, a live connection and a will: the queue stays, the
    connection lives, the will stays what it was, and no memory is left behind."""
    ada = crowd[0]
    state = f"devices/{ada.user}/state"

    def attack(times: int) -> None:
        for number in range(times):
            with embedded.tcp() as intruder:
                password = ("wrong", None)[number % 2]
                will = Will(state, b"forged", 1, retain=True)
                intruder.send(
                    connect("victim", user=ada.user, password=password, clean=number % 3 == 0, will=will),
                    publish(f"inbox/{bob.user}/chat/{ada.user}", b"forged", qos=1, id=1),
                )
                assert intruder.closed() == [refused(5)]

    with ada.dial("watcher") as watcher, ada.dial("victim", clean=False, will=Will(state, b"gone", 1)) as victim:
        watcher.subscribed((state, 1))
        victim.subscribed((f"devices/{ada.user}/queue", 1), (f"inbox/{ada.user}/chat/+", 1))
        bob.say(ada, {"body": "waits in the inbox"})
        watcher.published(f"devices/{ada.user}/queue", b"waits in the session")
        waiting = [victim.publication(), victim.publication()]
        attack(200)
        before = embedded.memory()
        attack(1_800)
        grown = embedded.memory() - before
        assert grown < 1_000_000, f"{grown} bytes more than before"
        victim.nothing()
        watcher.nothing()
        victim.close()
        assert watcher.take().payload == b"gone"
        with ada.dial("victim", clean=False, answer=RESUMED) as victim:
            again = [victim.take(), victim.take()]
            assert sorted(again) == sorted(one._replace(dup=True) for one in waiting)
            victim.nothing()
    bob.caught_up()
    assert bob.documents() == []


def test_a_stalled_password_check_holds_up_nobody(embedded: Aldis, ada: Device, bob: Device) -> None:
    """Long user names, long passwords, many at once: a conversation beside it goes on."""
    clients = [embedded.tcp() for _ in range(50)]
    for client in clients:
        client.send(connect("x" * 60_000, user="u" * 60_000, password="p" * 60_000))
    for number in range(20):
        assert ada.say(bob.person, {"body": number})["type"] == "sent"
    assert bodies(bob.chats(20)) == list(range(20))
    for client in clients:
        assert client.closed() == [refused(5)]
        client.close()
