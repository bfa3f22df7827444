"""TCP proxies in a process of their own, and what can be done to the connections through them.

`python -m tests.faults.proxy` obeys orders on standard input, one JSON object a line, and answers each with one line.
A black hole holds what is sent until it is over, as TCP does by sending again: a connection that outlives it goes on.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

COMMIT = b"\x03COMMIT"
Address = tuple[str, int]


@dataclass
class Weather:
    """What happens to one direction. Times in seconds."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    """Bytes per second; 0: as fast as it goes."""

    def __post_init__(self) -> None:
        self.open.set()


class Link:
    """One connection: two pipes."""

    def __init__(self, line: Line, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.line, self.client, self.server = line, client, server
        self.deaf = False
        """The next thing that the server says is swallowed, and the connection cut."""

    def reset(self) -> None:
        for writer in (self.client, self.server):
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Weather) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        sending = asyncio.ensure_future(self._send(queue, writer, weather))
        upward = writer is self.server
        framing = Commits() if self.line.mysql and upward else None
        try:
            while True:
                try:
                    data = await reader.read(65_536)
                except OSError:
                    data = b""
                if framing is not None and data and framing.see(data) and self.line.lose_commits:
                    self.line.lose_commits -= 1
                    self.line.lost += 1
                    self.deaf = True
                if not upward and self.deaf and data:
                    self.reset()
                    return
                if data and self.line.tear and len(data) > 1:
                    self.line.tear -= 1
                    writer.write(data[: len(data) // 2])
                    await asyncio.sleep(0)
                    self.reset()
                    return
                due = loop.time() + weather.delay + random.random() * weather.jitter
                await queue.put((due, data))
                if not data:
                    await sending
                    return
        finally:
            sending.cancel()

    async def _send(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, weather: Weather
    ) -> None:
        loop = asyncio.get_running_loop()
        broken = False
        while True:
            due, data = await queue.get()
            if broken and data:
                continue  # so that the reader is never held up
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            await weather.open.wait()
            if not data:
                writer.close()  # the end travels no faster than the rest
                return
            if weather.rate:
                await asyncio.sleep(len(data) / weather.rate)
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                broken = True
                self.reset()


class Commits:
    """Finds the COMMITs in what a MySQL client sends: packets of a three-byte length, a number and a body."""

    def __init__(self) -> None:
        self._rest = b""

    def see(self, data: bytes) -> bool:
        found = False
        rest = self._rest + data
        while len(rest) >= 4:
            end = 4 + int.from_bytes(rest[:3], "little")
            if len(rest) < end:
                break
            found = found or rest[4:end].upper() == COMMIT
            rest = rest[end:]
        self._rest = rest
        return found


def _reusable(port: int) -> socket.socket:
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind(("127.0.0.1", port))
    return place


class Line:
    """A port that leads to one server."""

    def __init__(self, target: Address, mysql: bool) -> None:
        self.target, self.mysql = target, mysql
        self.up, self.down = Weather(), Weather()
        self.tear = 0
        self.lose_commits = 0
        self.lost = 0
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        # bound and never listening: while we refuse, nobody else is given this port
        self._place = _reusable(0)
        self.port: int = self._place.getsockname()[1]

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=_reusable(self.port), backlog=512)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        link = None
        try:
            await self.up.open.wait()  # a black hole does not answer a SYN
            up_reader, up_writer = await asyncio.open_connection(*self.target)
            link = Link(self, writer, up_writer)
            self._links.add(link)
            await asyncio.gather(
                link.pump(reader, up_writer, self.up), link.pump(up_reader, writer, self.down), return_exceptions=True
            )
        except OSError:
            pass  # the server is not there: the client sees its connection closed
        finally:
            if link is not None:
                self._links.discard(link)
                link.reset()
            writer.transport.abort()
            self._tasks.discard(task)

    def reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def refuse(self, refusing: bool) -> None:
        """ECONNREFUSED for new connections; those that are open stay."""
        if refusing and self._server is not None:
            self._server.close()
            self._server = None
        elif not refusing and self._server is None:
            await self.listen()


class Proxies:
    """The process's side."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "open":
            line = self._lines[order["name"]] = Line((order["host"], order["port"]), order.get("mysql", False))
            await line.listen()
            return {"port": line.port}
        line = self._lines[order["name"]]
        directions = {"both": (line.up, line.down), "up": (line.up,), "down": (line.down,)}[order.get("way", "both")]
        match order["do"]:
            case "hole":
                for direction in directions:
                    direction.open.clear()
            case "weather":
                for direction in directions:
                    direction.delay, direction.jitter = order.get("delay", 0.0), order.get("jitter", 0.0)
                    direction.rate = order.get("rate", 0.0)
            case "reset":
                line.reset()
            case "tear":
                line.tear = order.get("times", 1)
            case "lose_commits":
                line.lose_commits = order.get("times", 1)
            case "refuse":
                await line.refuse(True)
            case "target":
                line.target = (order["host"], order["port"])
            case "pass":
                for direction in (line.up, line.down):
                    direction.delay = direction.jitter = direction.rate = 0.0
                    direction.open.set()
                line.tear = line.lose_commits = 0
                await line.refuse(False)
        return {"lost": line.lost, "torn": line.tear}


class ProxyProcess:
    """The runner's side."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = threading.Lock()

    def order(self, do: str, name: str, **fields: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        with self._lock:
            self.process.stdin.write(json.dumps({"do": do, "name": name, **fields}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        assert line, "the proxies have died"
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, answer
        return answer

    def open(self, name: str, target: Address, *, mysql: bool = False) -> int:
        """A new line under this name; its port."""
        return int(self.order("open", name, host=target[0], port=target[1], mysql=mysql)["port"])

    def end(self) -> None:
        if self.process.stdin is not None and self.process.stdout is not None:
            self.process.stdin.close()
            self.process.stdout.close()
        self.process.terminate()
        self.process.wait(10)


Obey = Callable[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]


async def serve(obey: Obey) -> None:
    """Reads orders until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            answer = await obey(json.loads(line))
        except (OSError, KeyError) as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Proxies().obey))
