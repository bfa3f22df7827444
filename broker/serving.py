"""A server from its start to its end, and the signals between: SIGHUP reloads, SIGTERM and SIGINT stop it, the second
of these at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable

from aldis.broker.compose import Server
from aldis.broker.compose_store import StartFailed
from aldis.broker.reload import reload
from aldis.config.settings import Settings

logger = logging.getLogger(__name__)

DONE, FAILED = 0, 1
KILLED = 128
"""Plus the number of the signal, as shells have it: stopped at once, by the second signal."""


async def serve(settings: Settings, again: Callable[[], Settings], announce: Callable[[Server], None]) -> int:
    """Runs until a signal. Exit codes: 0 stopped, everything committed and answered; 1 not started, or something had to
    be given up at the end; 128 + n stopped at once by a second signal n."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            print("aldis: stopped at once", file=sys.stderr, flush=True)
            os._exit(KILLED + number)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    server = Server(settings)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # nothing to reload yet, and no reason to die
    try:
        await server.start()
    except StartFailed as error:
        print(f"aldis: {error}", file=sys.stderr)
        return FAILED
    loop.add_signal_handler(signal.SIGHUP, _reload, server, again)
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


def _reload(server: Server, again: Callable[[], Settings]) -> None:
    try:
        reload(server, again)
    except Exception:
        logger.exception("settings not reloaded")
