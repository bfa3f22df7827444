"""A server from its start to its end, and the signals between: SIGHUP reloads, SIGTERM and SIGINT stop it, the second
of these at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from aldis.broker.compose_store import StartFailed

logger = logging.getLogger(__name__)

DONE, FAILED = 0, 1
KILLED = 128
"""Plus the number of the signal, as shells have it: stopped at once, by the second signal."""


class Served(Protocol):
    """A server of whichever kind, see `compose.Server`."""

    async def start(self) -> None: ...
    async def stop(self) -> bool: ...


S = TypeVar("S", bound=Served)


async def serve(make: Callable[[], S], reload: Callable[[S], object], announce: Callable[[S], None]) -> int:
    """Runs until a signal; `make` is called in the event loop. Exit codes: 0 stopped, everything committed and
    answered; 1 not started, or something had to be given up at the end; 128 + n stopped at once by a second signal n.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            print("aldis: stopped at once", file=sys.stderr, flush=True)
            os._exit(KILLED + number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    server = make()
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # nothing to reload yet, and no reason to die
    try:
        if not await _started(server, stopping):
            logger.info("stopped before it had started")
            return DONE
    except StartFailed as error:
        print(f"aldis: {error}", file=sys.stderr)
        return FAILED
    loop.add_signal_handler(signal.SIGHUP, _reload, server, reload)
    announce(server)
    await stopping.wait()
    logger.info("stopping")
    if not await server.stop():
        # a thread may hang in the store for ever, and Python would wait for it
        logging.shutdown()
        sys.stdout.flush()
        os._exit(FAILED)
    logger.info("stopped")
    return DONE


async def _started(server: Served, stopping: asyncio.Event) -> bool:
    """False: it was told to stop before. A start may take long, since it waits for the database."""
    start, stop = asyncio.ensure_future(server.start()), asyncio.ensure_future(stopping.wait())
    await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if not start.done():
        start.cancel()
        await asyncio.wait((start,))
        return False
    start.result()
    return True


def _reload(server: S, reload: Callable[[S], object]) -> None:
    try:
        reload(server)
    except Exception:
        logger.exception("settings not reloaded")
