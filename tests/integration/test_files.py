"""Files through a real server: large ones in little memory, connections that are cut, and MQTT beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from aldis.mobile_client_demo.encryption import RelationKey, decrypt, encrypt
from aldis.mobile_client_demo.files import FileMessage, fetch_file, part_of, send_file
from aldis.mobile_client_demo.rest import Login, Refused, Rest
from tests.s3_server import S3Server
from tests.servers import Aldis, running
from tests.tcp_proxy import TcpProxy
from tests.wire import PINGREQ, PINGRESP

LARGE = 200_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    limits = {"files.max_size": 2 * LARGE, "files.max_total_per_user": 10 * LARGE, "files.max_downloads_per_user": 40}
    with running(tmp_path_factory.mktemp("files"), settings=limits) as server:
        server.register("alice", "bob", "carol")
        server.befriend("alice", "bob")
        yield server


def entered(server: Aldis, user: str) -> tuple[Rest, Login]:
    rest = Rest(f"http://{server.http[0]}:{server.http[1]}", timeout=20)
    return rest, Login(user, "phone", server.login(user, "phone"), "")


def most_memory(server: Aldis) -> int:
    """The largest resident set so far, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def test_200_mb_pass_through_in_little_memory(server: Aldis, tmp_path: Path) -> None:
    source, target = tmp_path / "large.bin", tmp_path / "received.bin"
    with source.open("wb") as file:
        file.truncate(LARGE)
        file.seek(LARGE // 2)
        file.write(os.urandom(1_000))
    rest, alice = entered(server, "alice")
    _, bob = entered(server, "bob")
    before = psutil.Process(server.process.pid).memory_info().rss
    message = send_file(rest, alice, source, "bob", mime="video/mp4")
    assert message.stored > LARGE
    fetch_file(rest, bob, message, target)
    grown = max(0, most_memory(server) - before)
    assert grown < 30_000_000, f"{grown / 1e6:.0f} MB more for a file of {LARGE / 1e6:.0f} MB"
    with source.open("rb") as one, target.open("rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
    rest_again, carol = entered(server, "carol")
    with pytest.raises(Refused):
        fetch_file(rest_again, carol, message, tmp_path / "not for carol")
    stored = next(path for path in (server.data / "files").rglob(message.file_id))
    assert stored.stat().st_size == message.stored
    assert bytes(100_000) not in stored.read_bytes()[:10_000_000], "what lies on the disk is encrypted"


async def test_a_file_over_connections_that_are_cut(server: Aldis, tmp_path: Path) -> None:
    """The receiver goes on behind what it has, until it has all of it; the message travels encrypted as any other."""
    source, target = tmp_path / "Grüße.bin", tmp_path / "received.bin"
    source.write_bytes(os.urandom(20_000_000))
    rest, alice = entered(server, "alice")
    _, bob = entered(server, "bob")
    message = send_file(rest, alice, source, "bob", mime="image/png")
    key = RelationKey(1, os.urandom(32))
    content = encrypt(key, sender="alice", recipient="bob", text=message.body())
    received = FileMessage.read(decrypt(key, sender="alice", recipient="bob", content=content))
    assert received == message
    cuts = 0

    async def cut(proxy: TcpProxy, part: Path) -> None:
        nonlocal cuts
        had = 0
        while True:
            have = part.stat().st_size if part.exists() else 0
            had = min(had, have)  # who begins anew is cut anew, and never comes to the end
            if have > had + 1_000_000:
                proxy.cut()
                cuts, had = cuts + 1, have
            await asyncio.sleep(0.001)

    async with TcpProxy(server.http[1]) as proxy:
        through = Rest(f"http://127.0.0.1:{proxy.port}", timeout=5)
        cutting = asyncio.create_task(cut(proxy, part_of(received, target)))
        await asyncio.to_thread(fetch_file, through, bob, received, target, attempts=40)
        cutting.cancel()
    assert cuts >= 2, "the connection was never cut"
    assert target.read_bytes() == source.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Grüße.bin", "received.bin"]


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "-sS", "--noproxy", "*", *arguments], capture_output=True, check=False, timeout=60)


def test_curl_goes_on_where_it_was_cut(server: Aldis, tmp_path: Path) -> None:
    source, target = tmp_path / "a.bin", tmp_path / "b.bin"
    source.write_bytes(os.urandom(60_000_000))
    token = server.login("alice", "curl")
    url = f"http://{server.http[0]}:{server.http[1]}/v1/files"
    given = ("-H", f"Authorization: Bearer {token}")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    sent = curl(*given, "-F", f"sha256={digest}", "-F", f"file=@{source};type=image/png", f"{url}?to=alice")
    entry = json.loads(sent.stdout)
    assert (entry["name"], entry["size"], entry["sha256"]) == ("a.bin", 60_000_000, digest)
    cut = curl(*given, "-o", str(target), "--limit-rate", "1M", "--max-time", "3", f"{url}/{entry['file_id']}")
    assert cut.returncode == 28 and 0 < target.stat().st_size < 60_000_000
    assert curl(*given, "-C", "-", "-o", str(target), f"{url}/{entry['file_id']}").returncode == 0
    assert target.read_bytes() == source.read_bytes()
    looked = curl(*given, "-I", f"{url}/{entry['file_id']}").stdout.decode()
    assert looked.startswith("HTTP/1.1 200") and f'etag: "{digest}"' in looked.lower()
    assert "server: uvicorn" not in looked.lower()
    assert entry["file_id"] in server.log and token not in server.log and "a.bin" not in server.log


@pytest.mark.alone
def test_mqtt_does_not_wait_for_downloads(server: Aldis, tmp_path: Path) -> None:
    source = tmp_path / "a.bin"
    source.write_bytes(bytes(50_000_000))
    rest, alice = entered(server, "alice")
    message = send_file(rest, alice, source, "alice", mime="image/png")
    url = f"http://{server.http[0]}:{server.http[1]}/v1/files/{message.file_id}"
    given = ["-H", f"Authorization: Bearer {alice.access_token}", "-o", "/dev/null", "--limit-rate", "4M"]
    downloads = [
        subprocess.Popen(["curl", "-sS", "--noproxy", "*", *given, url], stderr=subprocess.PIPE) for _ in range(20)
    ]
    try:
        times = []
        until = time.monotonic() + 3
        with server.tcp().connected("pings", user="alice", password=server.login("alice", "pings")) as client:
            while time.monotonic() < until:
                begun = time.perf_counter()
                client.send(PINGREQ)
                client.expect(PINGRESP)
                times.append(time.perf_counter() - begun)
                time.sleep(0.01)
        assert all(one.poll() is None for one in downloads), "they are under way all the time"
    finally:
        for one in downloads:
            one.kill()
            one.wait()
    times.sort()
    median, late = times[len(times) // 2], times[len(times) * 99 // 100]
    assert median < 0.02 and late < 0.25, (median, late)


@pytest.fixture(scope="module")
def bucket_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


def test_the_same_from_a_bucket(bucket_server: S3Server, tmp_path: Path) -> None:
    """`files.backend: s3`: in parts of 5 MiB, in little memory, with ranges, and removed for good."""
    bucket = bucket_server.new_bucket()
    (tmp_path / "key").write_text("secret\n")
    (tmp_path / "key").chmod(0o600)
    settings = {
        "files.backend": "s3",
        "files.s3.bucket": bucket.bucket,
        "files.s3.endpoint": bucket_server.url,
        "files.s3.allow_http": "true",
        "files.s3.access_key_id": "someone",
        "files.s3.secret_key_file": tmp_path / "key",
    }
    source, target = tmp_path / "a.bin", tmp_path / "b.bin"
    source.write_bytes(os.urandom(60_000_000))
    with running(tmp_path / "server", settings=settings) as server:
        server.register("alice", "bob")
        server.befriend("alice", "bob")
        rest, alice = entered(server, "alice")
        _, bob = entered(server, "bob")
        before = psutil.Process(server.process.pid).memory_info().rss
        message = send_file(rest, alice, source, "bob", mime="image/png")
        fetch_file(rest, bob, message, target)
        grown = most_memory(server) - before
        assert grown < 50_000_000, f"{grown / 1e6:.0f} MB more"
        assert target.read_bytes() == source.read_bytes()
        assert bucket_server.keys(bucket) == [f"contents/{message.file_id}", "storage-id"]
        url = f"http://{server.http[0]}:{server.http[1]}/v1/files/{message.file_id}"
        part = curl("-H", f"Authorization: Bearer {bob.access_token}", "-r", "30000000-30000009", url)
        assert len(part.stdout) == 10
        server.rest("DELETE", f"/v1/files/{message.file_id}", token=alice.access_token)
        assert bucket_server.keys(bucket) == ["storage-id"]
        assert bucket_server.unfinished(bucket) == 0
        assert "secret" not in server.log


def test_a_bucket_that_is_away_keeps_nothing_else_from_working(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"
    settings = {
        "files.backend": "s3",
        "files.s3": json.dumps({"bucket": "aldis-files", "endpoint": nowhere, "allow_http": True, "max_retries": 0}),
        "logging.format": "json",
    }
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in keys.items():
            environment.setenv(name, value)
        with running(tmp_path / "server", settings=settings) as server:
            server.register("alice")
            rest, alice = entered(server, "alice")
            (tmp_path / "a").write_bytes(b"x")
            with pytest.raises(Refused) as refused:
                send_file(rest, alice, tmp_path / "a", "alice", mime="image/png")
            assert refused.value.status == 503
            assert server.rest("GET", "/readyz") == {"status": "ok"}


def test_a_client_that_takes_nothing_loses_its_connection(tmp_path: Path) -> None:
    """Closing it would wait for as long as the client likes: what is buffered for it must go out first."""
    (tmp_path / "a").write_bytes(bytes(50_000_000))
    settings = {"files.stall_timeout": 1}
    with running(tmp_path / "server", settings=settings) as server:
        server.register("alice")
        rest, alice = entered(server, "alice")
        message = send_file(rest, alice, tmp_path / "a", "alice", mime="image/png")
        with socket.create_connection(server.http) as client:
            request = (
                f"GET /v1/files/{message.file_id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.access_token}"
            )
            client.sendall(f"{request}\r\n\r\n".encode())
            port = client.getsockname()[1]

            def held() -> bool:
                open_ones = psutil.Process(server.process.pid).net_connections("tcp")
                return any(one.raddr and one.raddr.port == port for one in open_ones)

            deadline = time.monotonic() + 5
            while not held():  # on a busy machine it takes the server a moment to accept
                assert time.monotonic() < deadline
                time.sleep(0.01)
            deadline = time.monotonic() + 8
            while held() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not held(), "the server still holds the connection"
        server.logged("a download was given up")


def test_a_shutdown_does_not_wait_for_transfers(tmp_path: Path) -> None:
    """An upload is undone and a download cut off: both can be made again."""
    (tmp_path / "a").write_bytes(bytes(50_000_000))
    with running(tmp_path / "server") as server:
        server.register("alice")
        rest, alice = entered(server, "alice")
        message = send_file(rest, alice, tmp_path / "a", "alice", mime="image/png")
        given = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.access_token}\r\n"
        with socket.create_connection(server.http) as up, socket.create_connection(server.http) as down:
            down.sendall(f"GET /v1/files/{message.file_id} {given}\r\n".encode())
            form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(5_000_000)
            more = "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n"
            up.sendall(f"POST /v1/files?to=alice {given}{more}\r\n".encode() + form)
            time.sleep(0.5)
            begun = time.monotonic()
            assert server.stop() == 0, server.log
            assert time.monotonic() - begun < 5
        files = server.data / "files"
        assert list((files / "incoming").iterdir()) == []
        assert [path.name for path in files.glob("??/*")] == [message.file_id]
