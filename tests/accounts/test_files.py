"""Files over REST: sent, fetched, given on, removed; and who may not."""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import pytest

from aldis.bridge.accounts.errors import LimitReached
from aldis.bridge.accounts.files import FileLimits, NewFile
from aldis.config.files import Files as FilesSettings
from tests.accounts.filing import fetch, nothing_is_left, on_disk, rows, send, stored
from tests.accounts.world import PASSWORD, World, assert_problem

CONTENT = secrets.token_bytes(700_001)


async def test_a_file_comes_to_the_friend_as_it_was(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    answer = await send(alice, CONTENT, to="bob", name="Grüße.bin", mime="image/png")
    assert answer.status_code == 201
    entry = answer.json()
    assert entry | {"file_id": "", "created": 0} == {
        "file_id": "",
        "name": "Grüße.bin",
        "size": len(CONTENT),
        "mime": "image/png",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "created": 0,
        "expires": None,
    }
    for caller in (alice, bob):
        got = await fetch(caller, entry["file_id"])
        assert (got.status_code, got.content) == (200, CONTENT)
        assert got.headers["content-type"] == "image/png"
        assert got.headers["etag"] == f'"{entry["sha256"]}"'
        assert got.headers["content-length"] == str(len(CONTENT))
        assert got.headers["content-disposition"].endswith("; filename*=UTF-8''Gr%C3%BC%C3%9Fe.bin")
    looked = await world.client.head(f"/v1/files/{entry['file_id']}", headers=bob.headers)
    assert (looked.status_code, looked.content) == (200, b"")
    changing = ("date", "content-length")
    assert {k: v for k, v in looked.headers.items() if k not in changing} == {
        k: v for k, v in got.headers.items() if k not in changing
    }
    assert looked.headers["content-length"] == str(len(CONTENT))


@pytest.mark.parametrize("size", [0, 1, 262_144])
async def test_small_and_empty_files(world: World, size: int) -> None:
    (alice,) = await world.enter("alice")
    file_id = await stored(alice, CONTENT[:size])
    assert (await fetch(alice, file_id)).content == CONTENT[:size]
    if size == 0:
        assert_problem(await fetch(alice, file_id, range="bytes=0-"), 416, "range-not-satisfiable")


async def test_parts_of_a_file(world: World) -> None:
    (alice,) = await world.enter("alice")
    file_id = await stored(alice, CONTENT)
    size = len(CONTENT)
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    for wanted, start, stop in [("0-0", 0, 1), ("262143-262145", 262_143, 262_146), ("-5", size - 5, size),
                                ("600000-", 600_000, size)]:  # fmt: skip
        got = await fetch(alice, file_id, range=f"bytes={wanted}", if_range=tag)
        assert (got.status_code, got.content) == (206, CONTENT[start:stop])
        assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    other = await fetch(alice, file_id, range="bytes=5-", if_range='"other"')
    assert (other.status_code, len(other.content)) == (200, size)
    outside = await fetch(alice, file_id, range=f"bytes={size}-")
    assert_problem(outside, 416, "range-not-satisfiable")
    assert outside.headers["content-range"] == f"bytes */{size}"
    again = await fetch(alice, file_id, if_none_match=f'"x", {tag}')
    assert (again.status_code, again.content) == (304, b"")
    many = await fetch(alice, file_id, range="bytes=" + ",".join(f"{n}-" for n in range(1_000)))
    assert (many.status_code, len(many.content)) == (200, size)


async def test_a_file_is_for_its_owner_and_receivers_alone(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    await world.befriend(bob, carol)
    file_id = await stored(alice, CONTENT, to="bob")
    stranger = await fetch(carol, file_id)
    assert_problem(stranger, 404, "unknown-file")
    nothing = await fetch(carol, "0" * 32)
    assert nothing.text == stranger.text, "whether there is one is not told"
    assert (await world.client.head(f"/v1/files/{file_id}", headers=carol.headers)).status_code == 404
    assert_problem(await carol.post(f"/v1/files/{file_id}/grants", {"to": "bob"}), 404, "unknown-file")
    assert_problem(await carol.delete(f"/v1/files/{file_id}"), 404, "unknown-file")
    assert_problem(await world.client.get(f"/v1/files/{file_id}"), 401, "invalid-token")
    assert_problem(await world.client.post("/v1/files?to=bob"), 401, "invalid-token")
    assert (await fetch(bob, file_id)).status_code == 200


async def test_receivers_are_friends(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    for to in ("carol", "nobody", "../bob", "bob\n", "."):
        assert_problem(await send(alice, b"x", to=to), 404, "not-friends")
    assert_problem(await send(alice, b"x", to=["bob", "carol"]), 404, "not-friends")
    assert (await world.client.post("/v1/files", headers=alice.headers)).status_code == 400
    await bob.put("/v1/blocks/alice")
    assert_problem(await send(alice, b"x", to="bob"), 404, "not-friends")
    await nothing_is_left(world)
    await bob.delete("/v1/blocks/alice")
    await world.befriend(alice, carol)
    file_id = await stored(alice, b"x", to=["bob", "carol", "alice", "bob"])
    assert await rows(world) == (1, 2)
    for caller in (alice, bob, carol):
        assert (await fetch(caller, file_id)).content == b"x"


async def test_who_has_a_file_gives_it_to_friends(world: World) -> None:
    alice, bob, carol = await world.enter("alice", "bob", "carol")
    await world.befriend(alice, bob)
    file_id = await stored(alice, CONTENT, to="bob")
    grants = f"/v1/files/{file_id}/grants"
    assert_problem(await bob.post(grants, {"to": "carol"}), 404, "not-friends")
    await world.befriend(bob, carol)
    for _ in range(2):
        assert (await bob.post(grants, {"to": "carol"})).status_code == 204
    assert (await fetch(carol, file_id)).content == CONTENT
    assert (await bob.post(grants, {"to": "alice"})).status_code == 204, "she has it anyway"
    assert await rows(world) == (1, 2)
    assert_problem(await bob.post(grants, {"to": "a b"}), 400, "invalid-request")
    assert_problem(await bob.post(grants, {"to": "carol", "more": 1}), 400, "invalid-request")


async def test_what_was_given_stays_when_people_part(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    file_id = await stored(alice, CONTENT, to="bob")
    await alice.delete("/v1/friends/bob")
    await alice.put("/v1/blocks/bob")
    assert (await fetch(bob, file_id)).status_code == 200
    assert_problem(await alice.post(f"/v1/files/{file_id}/grants", {"to": "bob"}), 404, "not-friends")
    assert (await alice.delete(f"/v1/files/{file_id}")).status_code == 204
    assert_problem(await fetch(bob, file_id), 404, "unknown-file")


async def test_removing(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    file_id = await stored(alice, CONTENT, to="bob")
    assert (await bob.delete(f"/v1/files/{file_id}")).status_code == 204
    assert_problem(await fetch(bob, file_id), 404, "unknown-file")
    assert (await fetch(alice, file_id)).status_code == 200
    assert (await alice.delete(f"/v1/files/{file_id}")).status_code == 204
    assert_problem(await alice.delete(f"/v1/files/{file_id}"), 404, "unknown-file")
    assert await world.accounts.files.used("alice") == (0, 0)
    await nothing_is_left(world)


async def test_a_wrong_hash_keeps_nothing(world: World) -> None:
    (alice,) = await world.enter("alice")
    assert_problem(await send(alice, CONTENT, sha256="0" * 64), 422, "hash-mismatch")
    assert_problem(await send(alice, CONTENT, sha256="nonsense"), 400, "invalid-request")
    await nothing_is_left(world)
    assert await world.accounts.files.used("alice") == (0, 0)


async def test_the_hash_may_follow_the_file(world: World) -> None:
    (alice,) = await world.enter("alice")
    digest = hashlib.sha256(CONTENT).hexdigest()
    form = [("file", ("a", CONTENT, "text/plain")), ("sha256", (None, digest))]
    for fields in (form, form[::-1]):
        answer = await world.client.post("/v1/files?to=alice", headers=alice.headers, files=fields)
        assert answer.status_code == 201, answer.text


async def test_no_path_and_no_id_of_the_server_is_told(world: World) -> None:
    (alice,) = await world.enter("alice")
    answer = await send(alice, b"x", name="../../../../etc/passwd")
    file_id = answer.json()["file_id"]
    assert answer.json()["name"] == "passwd"
    assert on_disk(world) == [f"{file_id[:2]}/{file_id}"]
    ids = {await stored(alice, b"x") for _ in range(20)}
    assert len(ids) == 20 and all(len(one) == 32 for one in ids)
    for path in ("..", "%2e%2e", "..%2f..%2fstorage-id", "storage-id", file_id.upper(), file_id + "/", file_id[:31],
                 "incoming", file_id + "%00", "/etc/passwd"):  # fmt: skip
        answer = await fetch(alice, path)
        assert answer.status_code in (400, 404) or (path.endswith("/") and answer.content == b"x"), path
        assert str(world.blobs.root) not in answer.text  # type: ignore[attr-defined]
    (world.blobs.root / file_id[:2] / file_id).unlink()  # type: ignore[attr-defined]
    lost = await fetch(alice, file_id)
    assert_problem(lost, 503, "unavailable")
    assert str(world.blobs.root) not in lost.text + str(lost.headers)  # type: ignore[attr-defined]


BAD_NAMES = ['a"; filename="b.exe', "a\r\nSet-Cookie: x=y", "a%0d%0aX: y", "ä\u202ex", "a;b=c", "\\"]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_no_name_breaks_out_of_its_header(world: World, name: str) -> None:
    (alice,) = await world.enter("alice")
    body = (
        b'--x\r\nContent-Disposition: form-data; name="sha256"\r\n\r\n' + hashlib.sha256(b"1").hexdigest().encode()
        + b"\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name.replace('"', '\\"').encode()
        + b'"\r\nContent-Type: text/html\r\n\r\n1\r\n--x--'
    )  # fmt: skip
    headers = {**alice.headers, "Content-Type": "multipart/form-data; boundary=x"}
    answer = await world.client.post("/v1/files?to=alice", content=body, headers=headers)
    if answer.status_code == 400:
        return  # the line break within the part's own header
    got = await fetch(alice, answer.json()["file_id"])
    assert "set-cookie" not in got.headers and "x" not in got.headers
    disposition = got.headers["content-disposition"]
    assert disposition.count('"') == 2 and disposition.count(";") == 2 and disposition.isascii()
    assert got.headers["content-type"] == "application/octet-stream"


@pytest.fixture
def files() -> FilesSettings:
    """Limits that are soon reached."""
    return FilesSettings(
        max_size=100_000,
        max_total_per_user=250_000,
        max_files_per_user=4,
        max_receivers=2,
        allowed_types=("image/*", "text/plain"),
        keep_days=1,
    )


async def test_limits_of_size_type_and_number(small: World) -> None:
    alice, *friends = await small.enter("alice", "bob", "carol", "dave")
    for friend in friends:
        await small.befriend(alice, friend)
    text = {"mime": "text/plain"}
    assert_problem(await send(alice, b"x", mime="text/html"), 415, "type-refused")
    assert_problem(await send(alice, bytes(100_001), **text), 413, "too-large")
    assert_problem(await send(alice, bytes(300_000), **text), 413, "too-large")
    assert_problem(await send(alice, b"x", to=["bob", "carol", "dave"], **text), 409, "limit-reached")
    file_id = await stored(alice, b"x", to=["bob", "carol"], **text)
    assert_problem(await alice.post(f"/v1/files/{file_id}/grants", {"to": "dave"}), 409, "limit-reached")
    await alice.delete(f"/v1/files/{file_id}")
    for _ in range(2):
        last = await stored(alice, bytes(100_000), **text)
    assert_problem(await send(alice, bytes(60_000), **text), 409, "limit-reached")
    await stored(alice, bytes(40_000), **text)
    await alice.delete(f"/v1/files/{last}")
    for _ in range(2):
        await stored(alice, b"x", **text)
    assert_problem(await send(alice, b"x", **text), 409, "limit-reached")
    assert await small.accounts.files.used("alice") == (4, 140_002)
    assert (await stored(friends[0], b"x", **text)) is not None, "another user has room of his own"


async def test_two_uploads_at_once_do_not_pass_the_limit_together(small: World) -> None:
    (alice,) = await small.enter("alice")
    answers = await asyncio.gather(*(send(alice, bytes(100_000), mime="text/plain") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]
    assert await small.accounts.files.used("alice") == (2, 200_000)
    assert len(on_disk(small)) == 2


async def test_an_expired_file_is_not_there(small: World) -> None:
    (alice,) = await small.enter("alice")
    answer = await send(alice, b"x", mime="text/plain")
    file_id, expires = answer.json()["file_id"], answer.json()["expires"]
    assert expires - answer.json()["created"] == 86_400_000
    small.shift = 86_300_000
    tokens = await small.tokens("alice")
    alice.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await fetch(alice, file_id)).status_code == 200
    small.shift = 86_400_001
    assert_problem(await fetch(alice, file_id), 404, "unknown-file")


async def test_a_file_of_a_deleted_account_stays_for_those_who_have_it(world: World) -> None:
    alice, bob = await world.enter("alice", "bob")
    await world.befriend(alice, bob)
    file_id = await stored(alice, CONTENT, to="bob")
    mine = await stored(alice, CONTENT)
    assert (await alice.post("/v1/account/deletion", {"password": PASSWORD})).status_code == 204
    assert (await fetch(bob, file_id)).content == CONTENT
    assert world.services.file_housekeeping is not None
    assert await world.services.file_housekeeping.round()
    assert on_disk(world) == [f"{file_id[:2]}/{file_id}"], mine


async def test_sums_are_made_anew(world: World) -> None:
    (alice,) = await world.enter("alice")
    for size in (10, 20, 30):
        await stored(alice, bytes(size))
    assert await world.accounts.files.used("alice") == (3, 60)


async def test_room_is_set_aside_one_upload_at_a_time(world: World) -> None:
    """On either database: two that begin at once do not both see what is left."""
    await world.enter("alice")
    limits = FileLimits(total=250, files=100, receivers=1)

    async def begin() -> bool:
        new = NewFile(secrets.token_hex(16), "alice", (), 100, world.now() + 60_000)
        try:
            await world.accounts.files.begin(new, limits, now=world.now())
        except LimitReached:
            return False
        return True

    assert sum(await asyncio.gather(*(begin() for _ in range(8)))) == 2
    assert await world.accounts.files.used("alice") == (2, 200)


async def test_one_file_is_not_given_to_more_than_it_may_be(world: World) -> None:
    alice, *friends = await world.enter("alice", "bob", "carol", "dave", "erin")
    for friend in friends:
        await world.befriend(alice, friend)
    file_id = await stored(alice, b"x")

    async def give(to: str) -> bool:
        try:
            await world.accounts.files.give("alice", file_id, to, limit=2, now=world.now())
        except LimitReached:
            return False
        return True

    assert sum(await asyncio.gather(*(give(friend.user) for friend in friends))) == 2
    assert await rows(world) == (1, 2)
