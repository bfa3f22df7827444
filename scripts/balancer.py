"""A small TCP balancer for a cluster on one machine: a tool for development and tests, not for production.

    python -m scripts.balancer 127.0.0.1:1883=127.0.0.1:1890,127.0.0.1:1891 [LISTEN=TARGETS …]

Each connection goes to the target that has the fewest; one that refuses is passed over, and tried last for a second.
It knows nothing of MQTT: a node that stands still is still chosen, since its system goes on accepting; a real balancer
asks `/readyz`. It adds no PROXY header, so the nodes see one address.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
from collections.abc import Sequence

Address = tuple[str, int]

CONNECT_WITHIN = 1.0
FORGET_AFTER = 1.0
"""Seconds until a target that refused is as good as the others again."""
CHUNK = 65_536


class Target:
    """A node. `connections` are those that are open now, `taken` all that ever went there."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.connections = 0
        self.taken = 0
        self.refused_at = float("-inf")


class Balancer:
    """Listens on one address for several targets. `start`, then `stop`."""

    def __init__(self, listen: Address, targets: Sequence[Address]) -> None:
        self.address = listen
        self.targets = [Target(address) for address in targets]
        self._turn = itertools.count()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Raises `OSError` where the address cannot be had."""
        self._server = await asyncio.start_server(self._accepted, *self.address, limit=CHUNK, backlog=1_024)
        self.address = self._server.sockets[0].getsockname()[:2]

    async def stop(self) -> None:
        """Closes whatever is open."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            pass  # `stop`; asyncio would report it
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for target in self._in_order():
            target.connections += 1
            try:
                async with asyncio.timeout(CONNECT_WITHIN):
                    there_reader, there_writer = await asyncio.open_connection(*target.address, limit=CHUNK)
            except (OSError, TimeoutError):
                target.refused_at = asyncio.get_running_loop().time()
                target.connections -= 1
                continue
            target.taken += 1
            try:
                await _join((reader, writer), (there_reader, there_writer))
            finally:
                target.connections -= 1
                there_writer.transport.abort()
            return

    def _in_order(self) -> list[Target]:
        """Fewest connections first, in turn among equals; who refused lately comes last."""
        now, first = asyncio.get_running_loop().time(), next(self._turn) % len(self.targets)
        turned = self.targets[first:] + self.targets[:first]
        return sorted(turned, key=lambda target: (now < target.refused_at + FORGET_AFTER, target.connections))


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: Stream, other: Stream) -> None:
    """Until both directions have ended, or one has broken: then the other end is reset, too."""
    for _, writer in (one, other):
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_pump(one[0], other[1]))
            directions.create_task(_pump(other[0], one[1]))
        for _, writer in (one, other):
            writer.close()  # what is still buffered goes out before
            await writer.wait_closed()
    except* OSError:
        pass


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An end of input is handed on as one (half-close), and nothing is read that the other side does not take."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _pair(text: str) -> Balancer:
    listen, _, targets = text.partition("=")
    return Balancer(_address(listen), [_address(target) for target in targets.split(",")])


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


async def _main(balancers: list[Balancer]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    for balancer in balancers:
        await balancer.start()
        print("listening on {}:{}".format(*balancer.address), flush=True)
    print("ready", flush=True)
    await stopping.wait()
    for balancer in balancers:
        await balancer.stop()


if __name__ == "__main__":
    if len(sys.argv) < 2 or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit((__doc__ or "").strip())
    asyncio.run(_main([_pair(argument) for argument in sys.argv[1:]]))
