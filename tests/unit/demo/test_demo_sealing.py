"""Wrapped keys: the written test vectors, in Python and in JavaScript, and everything that must not open."""

from __future__ import annotations

import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from aldis.mobile_client_demo.encryption import MESSAGES_PER_KEY, CannotDecrypt, Keyring, RelationKey
from aldis.mobile_client_demo.rest import FriendDevice, Keys, KeyVersion, Login, WrappedKey
from aldis.mobile_client_demo.sealed_device import Distrusted, SealedDevice
from aldis.mobile_client_demo.sealing import (
    FORMAT,
    DevicePair,
    Place,
    _cipher,
    check_of,
    fingerprint,
    safety_number,
    unwrap,
    wrap,
)

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "encryption.md"
SCRIPT = ROOT / "tests" / "clients" / "vectors.mjs"
FRIENDS = ("alice", "bob")
PLACE = Place(4, "alice", "phone", "bob", "laptop", FRIENDS)
KEY = bytes(range(32))


def vector() -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|]+?) \| `([^`]+)` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


def pair(row: dict[str, str], name: str) -> DevicePair:
    made = DevicePair(X25519PrivateKey.from_private_bytes(b64decode(row[f"{name} private (base64)"])))
    assert b64encode(made.public).decode() == row[f"{name} public (base64)"]
    return made


def test_the_documented_vector_is_what_we_wrap_and_open() -> None:
    row = vector()
    own, to, once = (pair(row, name) for name in "SRE")
    place = Place(
        int(row["sealed version"]),
        row["from user"],
        row["from device"],
        row["for user"],
        row["for device"],
        (row["for user"], row["from user"]),
    )
    assert b64encode(place.context()).decode() == row["sealed associated data (base64)"]
    key = b64decode(row["relation key (base64)"])
    blob = wrap(key, place, own, to.public, ephemeral=once)
    assert b64encode(blob).decode() == row["blob (base64)"] and len(blob) == 81
    assert unwrap(blob, place, to, own.public) == key
    assert b64encode(check_of(key, place.friends, place.version)).decode() == row["check (base64)"]
    alice = {row["from device"]: own.public, row["second device of from user"]: once.public}
    users = {row["from user"]: alice, row["for user"]: {row["for device"]: to.public}}
    assert safety_number(users) == row["safety number"]


def run_script(document: Path) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node")
    assert node, "node is needed: the vectors are for clients in browsers, too"
    return subprocess.run([node, str(SCRIPT), str(document)], capture_output=True, text=True, check=False, timeout=30)


def test_javascript_agrees() -> None:
    done = run_script(DOCUMENT)
    assert (done.returncode, done.stdout) == (0, "ok 31\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    "name",
    [
        "body (base64)",
        "blob (base64)",
        "check (base64)",
        "safety number",
        "shared (base64)",
        "text",
        "sealed version",
        "file bytes (base64)",
        "long file sha256",
        "file nonce (base64)",
    ],
)
def test_javascript_would_notice(tmp_path: Path, name: str) -> None:
    changed = tmp_path / "changed.md"
    value = vector()[name]
    other = ("2" if value[0] == "1" else "1") + value[1:]
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"| {name} | `{value}` |" in text
    changed.write_text(text.replace(f"| {name} | `{value}` |", f"| {name} | `{other}` |"), encoding="utf-8")
    assert run_script(changed).returncode != 0


@pytest.fixture
def three() -> tuple[DevicePair, DevicePair, bytes]:
    own, to = DevicePair(), DevicePair()
    return own, to, wrap(KEY, PLACE, own, to.public)


def test_wrapping_twice_gives_two_blobs(three: tuple[DevicePair, DevicePair, bytes]) -> None:
    own, to, blob = three
    again = wrap(KEY, PLACE, own, to.public)
    assert blob != again and blob[1:33] != again[1:33]
    assert unwrap(again, PLACE, to, own.public) == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"from_user": "bob"},
        {"from_device": "tablet"},
        {"to_user": "alice"},
        {"to_device": "Laptop"},
        {"friends": ("alice", "carol")},
    ],
)
def test_everything_is_bound(three: tuple[DevicePair, DevicePair, bytes], change: dict[str, Any]) -> None:
    own, to, blob = three
    with pytest.raises(CannotDecrypt):
        unwrap(blob, replace(PLACE, **change), to, own.public)


def test_only_the_right_device_opens_and_only_the_right_one_has_wrapped(
    three: tuple[DevicePair, DevicePair, bytes],
) -> None:
    own, to, blob = three
    assert unwrap(blob, replace(PLACE, friends=("bob", "alice")), to, own.public) == KEY
    server = DevicePair()
    for opener, by in [(server, own.public), (own, own.public), (to, server.public), (to, to.public)]:
        with pytest.raises(CannotDecrypt):
            unwrap(blob, PLACE, opener, by)
    # a server that makes up a key has no private key of alice's phone to wrap it with
    forged = wrap(bytes(32), PLACE, server, to.public)
    with pytest.raises(CannotDecrypt):
        unwrap(forged, PLACE, to, own.public)
    for bad in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(CannotDecrypt):
            unwrap(blob, PLACE, to, bad)
        with pytest.raises(CannotDecrypt):
            unwrap(blob[:1] + bad + blob[33:], PLACE, to, own.public)


def test_without_the_private_key_of_a_device_nobody_wraps_in_its_name(
    three: tuple[DevicePair, DevicePair, bytes],
) -> None:
    """The server knows every public key and every word of the format, and makes the rest up."""
    own, to, _ = three
    once, server = DevicePair(), DevicePair()
    receiver = X25519PublicKey.from_public_bytes(to.public)
    known = once.private.exchange(receiver)
    for guessed in (b"", bytes(32), known, server.private.exchange(receiver)):
        cipher, nonce = _cipher(known + guessed, once.public, own.public, to.public)
        forged = FORMAT + once.public + cipher.encrypt(nonce, bytes(32), PLACE.context())
        with pytest.raises(CannotDecrypt):
            unwrap(forged, PLACE, to, own.public)


def test_every_changed_byte_is_noticed(three: tuple[DevicePair, DevicePair, bytes]) -> None:
    own, to, blob = three
    for place in range(len(blob)):
        changed = bytearray(blob)
        changed[place] ^= 1
        with pytest.raises(CannotDecrypt):
            unwrap(bytes(changed), PLACE, to, own.public)
    for bad in (b"", blob[:-1], blob + b"\0"):
        with pytest.raises(CannotDecrypt):
            unwrap(bad, PLACE, to, own.public)


def test_private_keys_stay_out_of_logs() -> None:
    assert "private" not in repr(DevicePair())


def test_the_safety_number_shows_every_change() -> None:
    one, two, three = (DevicePair().public for _ in range(3))
    base = {"alice": {"phone": one}, "bob": {"laptop": two}}
    number = safety_number(base)
    assert re.fullmatch(r"(\d{5} ){11}\d{5}", number)
    assert safety_number(dict(reversed(base.items()))) == number
    for other in [
        {"alice": {"phone": three}, "bob": {"laptop": two}},
        {"alice": {"phone": one, "tablet": three}, "bob": {"laptop": two}},
        {"alice": {"phone": one}, "bob": {"laptop": two, "ghost": three}},
        {"alice": {"Phone": one}, "bob": {"laptop": two}},
        {"alice": {"phone": one}, "bob": {}},
    ]:
        assert safety_number(other) != number
    assert fingerprint("alice", {"a": one}) != fingerprint("bob", {"a": one})


class Server:
    """What a server says, true or not, in place of the REST calls of the demo."""

    def __init__(self) -> None:
        self.shown: list[FriendDevice] = []
        self.versions: list[KeyVersion] = []
        self.stored: list[dict[str, str]] = []

    def keys(self, _login: Login, _friend: str) -> Keys:
        return Keys(len(self.versions), True, self.versions)

    def friend_devices(self, _login: Login, _friend: str) -> list[FriendDevice]:
        return self.shown

    def store_sealed(
        self, _login: Login, _friend: str, _version: int, _check: bytes, keys: list[dict[str, str]]
    ) -> None:
        self.stored = keys


@pytest.fixture
def lying() -> tuple[Server, SealedDevice, DevicePair]:
    """Bob's laptop, that has confirmed alice's phone, and a server that will say something else."""
    server, phone = Server(), DevicePair()
    device = SealedDevice(server, Login("bob", "laptop", "", ""), Keyring())  # type: ignore[arg-type]
    server.shown = [
        FriendDevice("alice", "phone", phone.public, []),
        FriendDevice("bob", "laptop", device.pair.public, []),
    ]
    device.confirm("alice", device.safety_number("alice"))
    return server, device, phone


def sealed_by(by: DevicePair, key: bytes, to: bytes, version: int, check: bytes | None = None) -> KeyVersion:
    place = Place(version, "alice", "phone", "bob", "laptop", FRIENDS)
    found = WrappedKey(wrap(key, place, by, to), "alice", "phone", by.public)
    return KeyVersion(version, None, check or check_of(key, FRIENDS, version), found, False)


def test_a_false_public_key_gets_nothing(lying: tuple[Server, SealedDevice, DevicePair]) -> None:
    server, device, _ = lying
    number = device.safety_number("alice")
    assert device.seal("alice") == 1 and len(server.stored) == 2
    server.stored = []
    honest, mine = server.shown
    false = replace(honest, public_key=DevicePair().public)
    ghost = FriendDevice("bob", "ghost", DevicePair().public, [])
    for shown in ([false, mine], [honest, mine, ghost]):
        server.shown = shown
        assert device.safety_number("alice") != number
        with pytest.raises(Distrusted):
            device.seal("alice")
        with pytest.raises(Distrusted):
            device.confirm("alice", number)
    assert server.stored == []


def test_a_key_of_the_servers_own_is_not_taken(lying: tuple[Server, SealedDevice, DevicePair]) -> None:
    server, device, phone = lying
    server.versions = [sealed_by(DevicePair(), KEY, device.pair.public, 1)]
    with pytest.raises(Distrusted):
        device.fetch("alice")
    forged = sealed_by(DevicePair(), KEY, device.pair.public, 1)
    assert forged.wrapped is not None
    server.versions = [replace(forged, wrapped=replace(forged.wrapped, public_key=phone.public))]
    with pytest.raises(CannotDecrypt):
        device.fetch("alice")
    server.versions = [sealed_by(phone, KEY, device.pair.public, 1, check=bytes(32))]
    with pytest.raises(CannotDecrypt, match="others"):
        device.fetch("alice")
    server.versions = [sealed_by(phone, KEY, device.pair.public, 1)]
    assert device.fetch("alice") == [] and device.keys.newest("alice") == RelationKey(1, KEY)
    server.versions += [KeyVersion(2, RelationKey(2, bytes(32)), None, None, False)]
    with pytest.raises(Distrusted, match="made by the server"):
        device.fetch("alice")
    assert device.keys.newest("alice").version == 1, "texts are still encrypted under what is sealed"
    old = sealed_by(phone, KEY, device.pair.public, 1)
    server.versions = [replace(old, version=2)]
    with pytest.raises(CannotDecrypt):
        device.fetch("alice")


def test_a_key_is_worn_after_so_many_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MESSAGES_PER_KEY == 2**25
    monkeypatch.setattr("aldis.mobile_client_demo.encryption.MESSAGES_PER_KEY", 3)
    ring = Keyring()
    ring.add("bob", RelationKey(1, KEY))
    for _ in range(3):
        assert not ring.is_worn("bob")
        content = ring.encrypt("bob", sender="alice", text="x")
        assert ring.decrypt("bob", sender="alice", recipient="bob", content=content) == "x"
    assert ring.is_worn("bob")
    ring.add("bob", RelationKey(2, bytes(32)))
    assert not ring.is_worn("bob")
