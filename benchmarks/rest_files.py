"""A large file through the REST API and back: how fast, at which price, and how much memory it takes on its way."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]

from benchmarks import machine, population, servers
from benchmarks.bench import Bench
from benchmarks.servers import HOST, Server, free_port, listens, running

T = TypeVar("T")

STORAGES = ("disk", "S3 (moto)")
MIB = 1_048_576
_BOUNDARY = "----------benchmark"
_BUCKET = "benchmark"


class Peak:
    """The most memory that a process has had, looked at a hundred times a second, beside what it had before."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.before = self.most = self._process.memory_info().rss

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.most = max(self.most, self._process.memory_info().rss)


def transfers(bench: Bench, storage: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """One result for each upload and each download, in turn, checked byte by byte."""
    content = _content(size)
    digest = hashlib.sha256(content).hexdigest()
    folder = bench.work / f"files-{time.monotonic_ns()}"
    found: list[dict[str, Any]] = []
    with (
        _storage(storage, folder) as variables,
        servers.aldis(bench.command, "embedded", folder / "data", bench.core(0), variables) as server,
    ):
        owner = population.register_pairs(server, 2)[0]
        _fetch(server, owner, _send(server, owner, content[:MIB], hashlib.sha256(content[:MIB]).hexdigest()), MIB)
        for _ in range(rounds):
            up, file_id = _measured("upload", server, size, lambda: _send(server, owner, content, digest))
            down, came = _measured("download", server, size, lambda id=file_id: _fetch(server, owner, id, size))
            if hashlib.sha256(came).hexdigest() != digest:
                raise servers.ServerError("the file that came back is another one")
            _remove(server, owner, file_id)
            found += [up, down]
    return found


def _measured(what: str, server: Server, size: int, work: Callable[[], T]) -> tuple[dict[str, Any], T]:
    cpu, begun = machine.cpu_seconds(server.pid), time.perf_counter()
    with Peak(server.pid) as peak:
        result = work()
    seconds = time.perf_counter() - begun
    figures = {
        "what": what,
        "mib_per_s": size / MIB / seconds,
        "cpu_ms_per_mib": (machine.cpu_seconds(server.pid) - cpu) * 1000 / (size / MIB),
        "memory_mib": (peak.most - peak.before) / MIB,
    }
    return figures, result


@contextmanager
def _storage(storage: str, folder: Path) -> Iterator[dict[str, str]]:
    """The settings for it; S3 is moto's server, a process of its own, which keeps everything in memory."""
    folder.mkdir(parents=True)
    generous = {"ALDIS_FILES__MAX_TOTAL_PER_USER": str(4 * 1024 * MIB)}
    if storage == "disk":
        yield generous
        return
    port, key = free_port(), folder / "key"
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write("secret\n")
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", HOST, "-p", str(port)]
    with running(command, folder / "moto.log", None, lambda: listens(port)):
        request = urllib.request.Request(f"http://{HOST}:{port}/{_BUCKET}", method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
        s3 = {"BUCKET": _BUCKET, "ENDPOINT": f"http://{HOST}:{port}", "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "someone"}
        s3["SECRET_KEY_FILE"] = str(key)
        yield generous | {"ALDIS_FILES__BACKEND": "s3"} | {f"ALDIS_FILES__S3__{name}": s3[name] for name in s3}


def _send(server: Server, owner: population.Account, content: bytes, digest: str) -> str:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="sha256"\r\n\r\n{digest}\r\n--{_BOUNDARY}\r\n'
        'Content-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection(HOST, server.http, timeout=120)
    connection.putrequest("POST", f"/v1/files?to={owner['user']}")
    connection.putheader("Authorization", f"Bearer {owner['token']}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}")
    connection.putheader("Content-Length", str(len(head) + len(content) + len(tail)))
    connection.endheaders()
    connection.send(head)
    view = memoryview(content)
    for start in range(0, len(content), MIB):
        connection.send(view[start : start + MIB])
    connection.send(tail)
    answer = connection.getresponse()
    document = json.loads(answer.read())
    connection.close()
    if answer.status != 201:
        raise servers.ServerError(f"upload: {answer.status} {document}")
    return str(document["file_id"])


def _fetch(server: Server, owner: population.Account, file_id: str, size: int) -> bytearray:
    connection = http.client.HTTPConnection(HOST, server.http, timeout=120)
    connection.request("GET", f"/v1/files/{file_id}", headers={"Authorization": f"Bearer {owner['token']}"})
    answer = connection.getresponse()
    came = bytearray(size)
    view, place = memoryview(came), 0
    while count := answer.readinto(view[place : place + MIB]):
        place += count
    connection.close()
    if answer.status != 200 or place != size:
        raise servers.ServerError(f"download: {answer.status}, {place} of {size} bytes")
    return came


def _remove(server: Server, owner: population.Account, file_id: str) -> None:
    connection = http.client.HTTPConnection(HOST, server.http, timeout=60)
    connection.request("DELETE", f"/v1/files/{file_id}", headers={"Authorization": f"Bearer {owner['token']}"})
    assert connection.getresponse().status == 204
    connection.close()


def _content(size: int) -> bytes:
    """What does not compress, and is the same each time."""
    block = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(MIB // 32))
    return (block * (size // MIB + 1))[:size]
