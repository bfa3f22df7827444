"""The face of the bot for asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aldis.mobile_client_demo.bot.base import BaseBot
from aldis.mobile_client_demo.bot.handlers import Arrived, Message
from aldis.mobile_client_demo.bot.handles import Handle
from aldis.mobile_client_demo.bot.reception import Invoke
from aldis.mobile_client_demo.files import FileMessage


class AsyncBot(BaseBot):
    """`async with AsyncBot(…) as bot:` or `await bot.run()`. Handlers are coroutines or plain functions, run in the
    loop, one after the other. What a method promises stands at `Bot`."""

    _loop: asyncio.AbstractEventLoop

    def _invoker(self) -> Invoke:
        return self._call_in_loop

    def _call_in_loop(self, function: Callable[..., Any], arrived: Arrived) -> None:
        async def call() -> None:
            result = function() if arrived is None else function(arrived)
            if inspect.isawaitable(result):
                await result

        # The task takes over the context of this thread, and with it which item is being handled.
        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._core.start()

    async def stop(self, timeout: float = 10.0) -> None:
        await asyncio.to_thread(self._core.stop, timeout)

    async def run(self) -> None:
        """Until cancelled. Raises what makes going on senseless: `NotAllowed`."""
        await self.start()
        try:
            await asyncio.to_thread(self._core.over.wait)
        finally:
            await asyncio.shield(self.stop())
        if self._core.fault is not None:
            raise self._core.fault

    async def __aenter__(self) -> AsyncBot:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def wait_online(self, timeout: float | None = None) -> bool:
        return await asyncio.to_thread(self._core.online.wait, timeout)

    async def send(
        self, to: str, body: Any, type: str = "text", *, encrypted: bool = False, ordered: bool = False, **fields: Any
    ) -> Handle:
        return await asyncio.to_thread(self._send, to, body, type, encrypted, ordered, **fields)

    async def reply(self, message: Message, body: Any, **how: Any) -> Handle:
        return await self.send(message.sender, body, **({"encrypted": message.encrypted} | how))

    async def waiting(self) -> list[Handle]:
        return await asyncio.to_thread(self._core.waiting)

    async def read(self, message: Message) -> None:
        await asyncio.to_thread(self._core.say_read, message.sender, message.mid)

    async def report(self, topic: str, payload: bytes | str, *, retain: bool = True, qos: int = 1) -> bool:
        return await asyncio.to_thread(self._report, topic, payload, retain, qos)

    async def send_file(self, to: str, path: str | Path, *, mime: str = "application/octet-stream") -> Handle:
        return await asyncio.to_thread(self._send_file, to, Path(path), mime)

    async def fetch_file(self, message: Message, target: str | Path) -> FileMessage:
        return await asyncio.to_thread(self._fetch_file, message, Path(target))

    async def history(self, peer: str, *, before: int = 0, limit: int = 50) -> tuple[list[Message], int]:
        return await asyncio.to_thread(self._history, peer, before, limit)

    async def rotate_key(self, friend: str) -> int:
        return await asyncio.to_thread(self._core.keys.rotate, friend)

    async def seal(self, friend: str) -> bool:
        return await asyncio.to_thread(self._core.keys.seal, friend)

    async def safety_number(self, friend: str) -> str:
        return await asyncio.to_thread(self._core.keys.safety_number, friend)

    async def confirm(self, friend: str, number: str) -> None:
        await asyncio.to_thread(self._core.keys.confirm, friend, number)

    async def register_key(self) -> None:
        await asyncio.to_thread(self._core.keys.register)
