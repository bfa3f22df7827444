"""Encrypted texts: the written test vector, and everything that must not decrypt."""

import re
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from aldis.mobile_client_demo.encryption import CannotDecrypt, Keyring, RelationKey, associated_data, decrypt, encrypt

DOCUMENT = Path(__file__).parents[3] / "docs" / "encryption.md"
KEY = RelationKey(3, bytes(range(32)))


def vector() -> dict[str, str]:
    return dict(re.findall(r"^\| ([^|]+?) \| `([^`]+)` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_documented_vector_is_what_we_send_and_read():
    row = vector()
    key = RelationKey(int(row["key version"]), b64decode(row["key (base64)"]))
    nonce = b64decode(row["nonce (base64)"])
    sealed = encrypt(key, sender=row["sender"], recipient=row["recipient"], text=row["text"], nonce=nonce)
    assert sealed == {
        "enc": {"alg": "A256GCM", "v": key.version, "nonce": row["nonce (base64)"]},
        "body": row["body (base64)"],
    }
    data = associated_data(row["sender"], row["recipient"], key.version)
    assert b64encode(data).decode() == row["associated data (base64)"]
    assert decrypt(key, sender=row["sender"], recipient=row["recipient"], content=sealed) == row["text"]


def test_every_message_has_its_own_nonce():
    nonces = {encrypt(KEY, sender="a", recipient="b", text="x")["enc"]["nonce"] for _ in range(100)}
    assert len(nonces) == 100


@pytest.mark.parametrize("text", ["", "a", "Grüße 💡", "x" * 50_000])
def test_round_trip(text):
    content = {"id": "1", "type": "text", **encrypt(KEY, sender="a", recipient="b", text=text)}
    assert decrypt(KEY, sender="a", recipient="b", content=content) == text


@pytest.mark.parametrize(
    ("sender", "recipient", "key"),
    [
        ("b", "a", KEY),
        ("a", "c", KEY),
        ("c", "b", KEY),
        ("a", "b", RelationKey(3, bytes(32))),
        ("a", "b", RelationKey(4, KEY.key)),
    ],
)
def test_sender_recipient_key_and_version_are_bound(sender, recipient, key):
    content = encrypt(KEY, sender="a", recipient="b", text="hello")
    with pytest.raises(CannotDecrypt):
        decrypt(key, sender=sender, recipient=recipient, content=content)


def test_a_version_that_was_changed_on_the_way_does_not_decrypt():
    content = encrypt(KEY, sender="a", recipient="b", text="hello")
    content["enc"]["v"] = 4
    with pytest.raises(CannotDecrypt):
        decrypt(RelationKey(4, KEY.key), sender="a", recipient="b", content=content)


def test_every_changed_byte_is_noticed():
    content = encrypt(KEY, sender="a", recipient="b", text="hello")
    body = b64decode(content["body"])
    for place in range(len(body)):
        changed = bytearray(body)
        changed[place] ^= 1
        with pytest.raises(CannotDecrypt):
            decrypt(KEY, sender="a", recipient="b", content={**content, "body": b64encode(changed).decode()})


@pytest.mark.parametrize(
    "content",
    [
        {"body": "plain"},
        {"enc": "A256GCM", "body": "AAAA"},
        {"enc": {"alg": "A128CBC", "v": 3, "nonce": "AAAA"}, "body": "AAAA"},
        {"enc": {"alg": "A256GCM", "v": True, "nonce": "AAAA"}, "body": "AAAA"},
        {"enc": {"alg": "A256GCM", "v": 3}, "body": "AAAA"},
        {"enc": {"alg": "A256GCM", "v": 3, "nonce": "AAAA"}, "body": "AAAA"},
        {"enc": {"alg": "A256GCM", "v": 3, "nonce": "ZGVmZ2hpamtsbW5v"}, "body": "not base64"},
        {"enc": {"alg": "A256GCM", "v": 3, "nonce": "ZGVmZ2hpamtsbW5v"}, "body": ""},
        {"enc": {"alg": "A256GCM", "v": 3, "nonce": "ZGVmZ2hpamtsbW5v"}},
        {"enc": {"alg": "A256GCM", "v": 3, "nonce": "ZGVmZ2hpamtsbW5v"}, "body": "ÄÖÜ"},
    ],
)
def test_nothing_that_is_not_a_sealed_text_decrypts(content):
    with pytest.raises(CannotDecrypt):
        decrypt(KEY, sender="a", recipient="b", content=content)


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size):
    with pytest.raises(ValueError, match="32 bytes"):
        RelationKey(1, bytes(size))


def test_a_key_stays_out_of_logs():
    assert "\\x" not in repr(KEY) and "AAEC" not in repr(KEY)


def test_the_keyring_writes_with_the_newest_and_reads_with_every_version():
    ring, new = Keyring(), RelationKey(10, bytes(32))
    old_text = encrypt(KEY, sender="a", recipient="b", text="old")
    ring.add("a", new)
    ring.add("a", KEY)
    assert ring.newest("a") == new
    assert ring.decrypt("a", sender="a", recipient="b", content=old_text) == "old"


def test_the_keyring_refuses_what_it_has_no_key_for():
    ring, content = Keyring(), encrypt(KEY, sender="a", recipient="b", text="x")
    with pytest.raises(KeyError):
        ring.newest("a")
    with pytest.raises(CannotDecrypt, match="no key of version 3 for a"):
        ring.decrypt("a", sender="a", recipient="b", content=content)
    with pytest.raises(CannotDecrypt, match="not encrypted"):
        ring.decrypt("a", sender="a", recipient="b", content={"body": "plain"})
