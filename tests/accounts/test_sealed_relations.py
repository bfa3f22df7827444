"""Relations whose keys the server never sees: who may register, wrap, fetch, and what of it is refused.

The devices are those of `tests.accounts.sealing`.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from sqlalchemy import select

from aldis.bridge.schema import im_device_key, im_relation_key, im_sealed_key
from aldis.config.relation_keys import RelationKeys
from aldis.config.settings import Accounts as AccountsSettings
from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.sealing import DevicePair
from tests.accounts.sealing import Device, device, text
from tests.accounts.world import PASSWORD, World, assert_problem

FRIENDS = ("alice", "bob")


@pytest.fixture
async def three(world: World) -> tuple[Device, Device, Device]:
    """Alice's phone and tablet, Bob's laptop: friends, registered, sealed by the will of both; no sealed key yet."""
    await world.register(*FRIENDS)
    phone, tablet = await device(world, "alice", "phone"), await device(world, "alice", "tablet")
    laptop = await device(world, "bob", "laptop/1 \u00fc")
    await world.befriend(phone, laptop)
    for one in (phone, tablet, laptop):
        await one.register()
    for one, peer in [(phone, "bob"), (laptop, "alice")]:
        assert (await one.call("PUT", f"/v1/relations/{peer}/sealed")).status_code == 200
    return phone, tablet, laptop


Three = tuple[Device, Device, Device]


async def test_it_takes_both_to_seal(world: World) -> None:
    await world.register(*FRIENDS)
    phone, laptop = await device(world, "alice", "phone"), await device(world, "bob", "laptop")
    await world.befriend(phone, laptop)
    await phone.register()
    await laptop.register()
    told = len(world.postbox.posted)
    key = secrets.token_bytes(32)
    for _ in range(2):
        answer = await phone.call("PUT", "/v1/relations/bob/sealed")
        assert answer.json() == {"user_id": "bob", "mode": "server", "wanted_by": ["alice"]}
    assert_problem(await phone.make("bob", 2, key), 409, "not-sealed")
    assert_problem(await laptop.make("alice", 2, key), 409, "not-sealed")
    assert (await phone.post("/v1/relations/bob/rotate-key")).status_code == 200, "one wish changes nothing"
    assert (await laptop.call("PUT", "/v1/relations/alice/sealed")).json()["mode"] == "sealed"
    assert_problem(await phone.post("/v1/relations/bob/rotate-key"), 409, "relation-sealed")
    assert_problem(await laptop.post("/v1/relations/alice/rotate-key"), 409, "relation-sealed")
    assert (await phone.make("bob", 3, key)).status_code == 204
    assert await laptop.opened("alice", 3) == key
    listed = (await laptop.get("/v1/relations")).json()[0]
    assert listed["key"] is None and listed["key_version"] == 3
    for user in FRIENDS:
        kinds = [notice["type"] for to, notice in world.postbox.posted[told:] if to == user]
        assert kinds == ["seal_changed", "key_rotated", "seal_changed", "key_rotated"]
    for user, other in [("alice", "bob"), ("bob", "alice")]:
        last = [notice for to, notice in world.postbox.posted if to == user][-1]
        assert last == {"type": "key_rotated", "version": 3, "kind": "sealed", "user_id": other}
    assert (await phone.call("DELETE", "/v1/relations/bob/sealed")).status_code == 204
    assert (await phone.call("DELETE", "/v1/relations/bob/sealed")).status_code == 204
    assert world.postbox.posted[-1][1] == {"type": "seal_changed", "wanted_by": ["bob"], "user_id": "alice"}
    assert (await laptop.post("/v1/relations/alice/rotate-key")).json()["newest"] == 4
    assert await laptop.opened("alice", 3) == key, "what was sealed stays readable"


async def test_the_server_never_has_the_key(world: World, three: Three, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    phone, tablet, laptop = three
    key = secrets.token_bytes(32)
    assert (await phone.make("bob", 2, key)).status_code == 204
    assert [await one.opened(peer, 2) for one, peer in [(phone, "bob"), (tablet, "bob"), (laptop, "alice")]] == [
        key
    ] * 3
    async with world.engine.connect() as connection:
        rows = [tuple(row) for table in (im_relation_key, im_sealed_key, im_device_key)
                for row in (await connection.execute(select(table))).all()]  # fmt: skip
    everything = repr(rows) + caplog.text
    assert key not in b"".join(value for row in rows for value in row if isinstance(value, bytes))
    for form in (repr(key)[2:-1], key.hex(), text(key)):
        assert form not in everything
    for found in [one["wrapped"] for one in await phone.wrapped("bob", 2, key)]:
        assert found not in caplog.text


async def test_a_blob_goes_to_its_device_only(world: World, three: Three) -> None:
    """Also where both have a device of the same name."""
    phone, tablet, laptop = three
    namesake, key = await device(world, "bob", "phone"), secrets.token_bytes(32)
    await namesake.register()
    assert (await phone.make("bob", 2, key)).status_code == 204
    everybody = [(phone, "bob"), (tablet, "bob"), (laptop, "alice"), (namesake, "alice")]
    assert len({(await one.version(peer, 2))["wrapped"] for one, peer in everybody}) == 4
    for one, peer in everybody:
        assert len((await one.get(f"/v1/relations/{peer}/keys")).json()["keys"]) == 2
        assert await one.opened(peer, 2) == key
    late = await device(world, "alice", "watch")
    found = await late.version("bob", 2)
    assert found["wrapped"] is None and found["by"] is None and found["key"] is None and found["kind"] == "sealed"


async def test_a_new_device_is_given_what_it_lacks(world: World, three: Three) -> None:
    phone, tablet, laptop = three
    keys = {version: secrets.token_bytes(32) for version in (2, 3)}
    for version, key in keys.items():
        assert (await phone.make("bob", version, key)).status_code == 204
    watch = await device(world, "alice", "watch")
    told = len(world.postbox.posted)
    await watch.register()
    notice = {"type": "device_keys_changed", "user_id": "alice"}
    assert world.postbox.posted[told:] == [("alice", notice), ("bob", notice)]
    await watch.register()
    assert len(world.postbox.posted) == told + 2, "the same key again is nothing new"
    missing = {one["device_id"]: one["missing"] for one in await laptop.devices("alice")}
    assert missing == {"phone": [], "tablet": [], "watch": [2, 3], laptop.device: []}
    (mine,) = [one for one in await tablet.devices("bob") if one["missing"]]
    for version, key in keys.items():
        assert await tablet.opened("bob", version) == key
        answer = await tablet.add("bob", version, [tablet.wrap_for(mine, "bob", version, key)])
        assert answer.json() == {"added": 1}
        assert await watch.opened("bob", version) == key
    assert world.postbox.posted[-1] == ("alice", {"type": "key_wrapped", "user_id": "bob", "version": 3})
    assert not any(one["missing"] for one in await phone.devices("bob"))


async def test_what_a_device_has_is_not_replaced(world: World, three: Three) -> None:
    """A replayed or second blob for the same version changes nothing: not an old one, not one of another key."""
    phone, tablet, laptop = three
    key = secrets.token_bytes(32)
    first = await phone.wrapped("bob", 2, key)
    assert (await phone.make("bob", 2, key, first)).status_code == 204
    before = [(await one.version("bob", 2))["wrapped"] for one in (phone, tablet)]
    assert (await laptop.add("alice", 2, await laptop.wrapped("alice", 2, secrets.token_bytes(32)))).json() == {
        "added": 0
    }
    assert (await phone.make("bob", 2, key, first)).status_code == 204, "the lost answer"
    assert_problem(await laptop.make("alice", 2, secrets.token_bytes(32)), 409, "version-taken")
    assert_problem(await phone.make("bob", 4, key), 409, "version-taken")
    assert [(await one.version("bob", 2))["wrapped"] for one in (phone, tablet)] == before
    # the server takes old blobs for a new version: it cannot look inside. Devices refuse them
    assert (await phone.make("bob", 3, key, first)).status_code == 204
    for one, peer in [(phone, "bob"), (tablet, "bob"), (laptop, "alice")]:
        with pytest.raises(CannotDecrypt):
            await one.opened(peer, 3)


async def test_a_key_is_wrapped_for_exactly_the_devices_there_are(world: World, three: Three) -> None:
    phone, _, _ = three
    key = secrets.token_bytes(32)
    good = await phone.wrapped("bob", 2, key)
    other = text(DevicePair().public)
    carol = [{**good[0], "user_id": "carol"}]
    for keys in [
        good[:-1],
        good[1:],
        good + carol,
        carol + good[1:],
        [*good, good[0]],
        [{**good[0], "public_key": other}, *good[1:]],
    ]:
        assert_problem(await phone.make("bob", 2, key, keys), 409, "devices-changed")
        if keys not in (good[:-1], good[1:]):
            assert_problem(await phone.add("bob", 2, keys), 404, "unknown-version")
    stranger = await device(world, "alice", "unregistered")
    assert_problem(await stranger.make("bob", 2, key, good), 409, "no-device-key")
    assert (await phone.make("bob", 2, key, good)).status_code == 204
    assert_problem(await stranger.add("bob", 2, good[:1]), 409, "no-device-key")
    assert_problem(await phone.add("bob", 2, carol), 409, "devices-changed")
    await stranger.register()
    assert_problem(await stranger.add("bob", 2, good[:1]), 404, "unknown-version")


async def test_a_removed_device_gets_nothing_any_more(world: World, three: Three) -> None:
    phone, tablet, laptop = three
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    assert (await phone.make("bob", 2, old)).status_code == 204
    told = len(world.postbox.posted)
    assert (await phone.delete("/v1/devices/tablet")).status_code == 204
    notice = {"type": "device_keys_changed", "user_id": "alice"}
    assert [one for one in world.postbox.posted[told:] if one[1]["type"] == notice["type"]] == [
        ("alice", notice), ("bob", notice)]  # fmt: skip
    assert_problem(await tablet.get("/v1/relations/bob/keys"), 401, "session-ended")
    assert [one["device_id"] for one in await laptop.devices("alice")] == ["phone", laptop.device]
    assert (await laptop.version("alice", 2))["stale"], "the tablet has it still"
    assert (await laptop.make("alice", 3, new)).status_code == 204
    assert not (await phone.version("bob", 3))["stale"] and await phone.opened("bob", 3) == new
    again = await device(world, "alice", "tablet")
    found = (await again.get("/v1/relations/bob/keys")).json()["keys"]
    assert [one["wrapped"] for one in found] == [None, None, None], "whoever takes the name begins anew"
    again.pair = tablet.pair
    await again.register()
    assert {one["device_id"]: one["missing"] for one in await phone.devices("bob")}["tablet"] == [2, 3]


async def test_what_is_wrapped_while_a_device_is_removed_is_not_kept_for_it(world: World, three: Three) -> None:
    phone, _, laptop = three
    for _ in range(4):
        watch = await device(world, "alice", "watch")
        await watch.register()
        version = (await laptop.get("/v1/relations/alice/keys")).json()["newest"] + 1
        key = secrets.token_bytes(32)
        keys = await laptop.wrapped("alice", version, key)
        made, gone = await asyncio.gather(laptop.make("alice", version, key, keys), phone.delete("/v1/devices/watch"))
        assert gone.status_code == 204
        if made.status_code != 204:
            assert_problem(made, 409, "devices-changed")
        else:
            assert (await laptop.version("alice", version))["stale"], "the watch was given it, for a moment"
        async with world.engine.connect() as connection:
            kept = (await connection.scalars(select(im_sealed_key.c.device_id))).all()
        assert "watch" not in kept


async def test_a_device_of_which_only_its_key_is_left_can_be_removed(world: World, three: Three) -> None:
    """Logging out removes nothing; a removal that was cut off is repeated."""
    phone, tablet, laptop = three
    assert (await tablet.post("/v1/logout")).status_code == 204
    assert "tablet" in {one["device_id"] for one in await laptop.devices("alice")}
    assert (await phone.delete("/v1/devices/tablet")).status_code == 204
    assert "tablet" not in {one["device_id"] for one in await laptop.devices("alice")}
    assert_problem(await phone.delete("/v1/devices/tablet"), 404, "unknown-device")


async def test_a_deleted_account_leaves_its_peers_what_they_had(world: World, three: Three) -> None:
    phone, _, laptop = three
    key = secrets.token_bytes(32)
    assert (await phone.make("bob", 2, key)).status_code == 204
    assert (await phone.post("/v1/account/deletion", {"password": PASSWORD})).status_code == 204
    assert await laptop.opened("alice", 2) == key
    assert [one["user_id"] for one in await laptop.devices("alice")] == ["bob"]
    assert_problem(await laptop.post("/v1/relations/alice/rotate-key"), 404, "not-friends")
    assert_problem(await laptop.make("alice", 3, key), 404, "not-friends")
    async with world.engine.connect() as connection:
        for table in (im_device_key, im_sealed_key):
            assert {row.user_id for row in (await connection.execute(select(table))).all()} == {"bob"}


async def test_another_public_key_begins_anew(world: World, three: Three) -> None:
    phone, _, laptop = three
    assert (await phone.make("bob", 2, secrets.token_bytes(32))).status_code == 204
    laptop.pair = DevicePair()
    await laptop.register()
    found = await laptop.version("alice", 2)
    assert found["wrapped"] is None and found["stale"]
    assert {one["device_id"]: one["missing"] for one in await phone.devices("bob")}[laptop.device] == [2]


async def test_neither_strangers_nor_former_friends_nor_the_blocked(world: World, three: Three) -> None:
    phone, _, laptop = three
    key = secrets.token_bytes(32)
    keys = await phone.wrapped("bob", 2, key)
    assert (await phone.make("bob", 2, key, keys)).status_code == 204
    await world.register("carol")
    carol = await device(world, "carol", "phone")
    await carol.register()

    async def assert_all(one: Device, peer: str, status: int, slug: str, *, reading: bool) -> None:
        for method, path, body in [
            ("GET", "keys", None), ("GET", "devices", None), ("DELETE", "sealed", None), ("PUT", "sealed", None),
            ("POST", "rotate-key", None), ("PUT", "sealed-keys/2", {"keys": keys}),
            ("POST", "sealed-keys", {"version": 3, "check": text(bytes(32)), "keys": keys}),
        ]:  # fmt: skip
            if reading or method in ("POST", "PUT"):
                assert_problem(await one.call(method, f"/v1/relations/{peer}/{path}", body), status, slug)

    for peer in ["alice", "bob", "carol", "nobody"]:
        await assert_all(carol, peer, 404, "not-friends", reading=True)
    assert (await laptop.call("PUT", "/v1/blocks/alice")).status_code == 204
    await assert_all(phone, "bob", 404, "not-friends", reading=False)
    await assert_all(laptop, "alice", 409, "blocked-by-you", reading=False)
    assert await phone.opened("bob", 2) == key, "what was there stays readable"
    told = len(world.postbox.posted)
    watch = await device(world, "alice", "watch")
    await watch.register()
    assert (await phone.call("DELETE", "/v1/relations/bob/sealed")).status_code == 204
    assert [user for user, _ in world.postbox.posted[told:]] == [], "who blocks hears nothing"
    mine = [one for one in await phone.devices("bob") if one["device_id"] == "watch"]
    answer = await phone.add("bob", 2, [phone.wrap_for(mine[0], "bob", 2, key)])
    assert answer.json() == {"added": 1}, "one's own devices may have what one has"
    assert (await phone.delete("/v1/friends/bob")).status_code == 204
    for one, peer in [(phone, "bob"), (laptop, "alice")]:
        assert_problem(await one.get(f"/v1/relations/{peer}/keys"), 404, "not-friends")
        assert_problem(await one.get(f"/v1/relations/{peer}/devices"), 404, "not-friends")
    async with world.engine.connect() as connection:
        for table in (im_relation_key, im_sealed_key):
            assert (await connection.execute(select(table))).all() == []


ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
"""Points of small order: 0, 1, -1."""


async def test_huge_and_malformed_keys_are_problems(world: World, three: Three) -> None:
    phone, _, _ = three
    good = text(DevicePair().public)
    shapes = [
        "",
        "x",
        good[:-1],
        good + "=",
        good[:-4],
        text(bytes(31)),
        text(bytes(33)),
        "*" * 44,
        "ä" * 44,
        "A" * 1_000,
    ]
    unused_bits = good[:-2] + ("/=" if good[-2] != "/" else "+=")
    bad_keys: list[Any] = [*shapes, unused_bits, *map(text, ORDER), None, 7, [good]]
    for bad in bad_keys:
        answer = await phone.call("PUT", "/v1/device-key", {"public_key": bad})
        assert_problem(answer, 400, "invalid-request")
        if isinstance(bad, str) and len(bad) > 8:
            assert bad not in answer.text
    one = (await phone.wrapped("bob", 2, bytes(32)))[0]
    for change in [
        {"wrapped": ""}, {"wrapped": one["wrapped"][:-4]}, {"wrapped": text(b"\x02" + bytes(80))},
        {"wrapped": "-" * 108},
        {"public_key": text(bytes(5))}, {"user_id": "a b"}, {"user_id": "x" * 65}, {"device_id": ""}, {"more": 1},
    ]:  # fmt: skip
        assert_problem(await phone.make("bob", 2, bytes(32), [{**one, **change}]), 400, "invalid-request")
        assert_problem(await phone.add("bob", 2, [{**one, **change}]), 400, "invalid-request")
    assert_problem(await phone.make("bob", 2, bytes(32), []), 400, "invalid-request")
    assert_problem(await phone.make("bob", 2, bytes(32), [one] * 1_001), 413, "too-large")
    for version in [0, -1, 2**31, "2", None, 1.5]:
        assert_problem(await phone.make("bob", version, bytes(32), [one]), 400, "invalid-request")  # type: ignore[arg-type]
    for path in ["0", "2147483648", "99999999999999999999"]:
        assert_problem(await phone.add("bob", path, [one]), 400, "invalid-request")  # type: ignore[arg-type]
    assert_problem(await phone.add("bob", "-1", [one]), 400, "invalid-request")  # type: ignore[arg-type]
    assert_problem(await phone.add("bob", "x", [one]), 404, "not-found")  # type: ignore[arg-type]
    for peer in ["%0a", "a%20b", "%24server", "x" * 65]:
        for path in ["keys", "devices"]:
            assert_problem(await phone.get(f"/v1/relations/{peer}/{path}"), 400, "invalid-request")


async def test_a_device_token_opens_none_of_it(world: World, three: Three) -> None:
    phone, _, _ = three
    token = (await phone.post("/v1/tokens", {"device_id": "phone", "name": "bot"})).json()["token"]
    phone.headers = {"Authorization": f"Bearer {token}"}
    assert_problem(
        await phone.call("PUT", "/v1/device-key", {"public_key": text(DevicePair().public)}), 401, "invalid-token"
    )
    assert_problem(await phone.get("/v1/relations/bob/keys"), 401, "invalid-token")


class TestLimits:
    @pytest.fixture
    def settings(self) -> AccountsSettings:
        return AccountsSettings(keys=RelationKeys(max_versions=2, burst=5, per_minute=1, max_devices=2))

    async def test_devices_versions_and_rates_are_bounded(self, world: World, three: Three) -> None:
        phone, _, laptop = three
        watch = await device(world, "alice", "watch")
        body = {"public_key": text(watch.pair.public)}
        assert_problem(await watch.call("PUT", "/v1/device-key", body), 409, "limit-reached")
        assert (await phone.make("bob", 2, bytes(32))).status_code == 204
        assert_problem(await laptop.make("alice", 3, bytes(32)), 409, "limit-reached")
        for _ in range(2):
            await phone.register()
        assert_problem(await phone.call("PUT", "/v1/device-key", body), 429, "too-many-attempts")
