"""Reports a temperature as retained state below `devices/{me}/`, takes its interval as a command, and has a will."""

from __future__ import annotations

import asyncio
import logging
import random

from aldis.mobile_client_demo.bot import AsyncBot, DeviceMessage, Will
from aldis.mobile_client_demo.bot.examples.arguments import access, parser

logger = logging.getLogger(__name__)


class Sensor:
    """`devices/{me}/status` is online or offline, `…/temperature` the last value, and
    `…/command/interval` takes seconds."""

    def __init__(self, bot: AsyncBot, interval: float) -> None:
        self._bot, self._interval = bot, interval
        self._told = asyncio.Event()
        bot.on_online(self.greet)
        bot.on_device("command/interval")(self.obey)

    async def greet(self) -> None:
        await self._bot.report("status", "online")

    async def obey(self, command: DeviceMessage) -> None:
        try:
            self._interval = min(max(float(command.payload), 0.1), 3_600)
        except ValueError:
            logger.warning("not a number of seconds: %r", command.payload[:20])
            return
        await self._bot.report("interval", f"{self._interval:g}")
        self._told.set()

    async def measure(self) -> None:
        while True:
            await self._bot.report("temperature", f"{random.gauss(20, 0.5):.1f}")
            self._told.clear()
            try:
                await asyncio.wait_for(self._told.wait(), self._interval)
            except TimeoutError:
                pass


async def run() -> None:
    arguments = parser("Sensor.")
    arguments.add_argument("--interval", type=float, default=10.0, metavar="SECONDS")
    given = arguments.parse_args()
    bot = AsyncBot(**access(given), will=Will("status"))
    sensor = Sensor(bot, given.interval)
    measuring = asyncio.create_task(sensor.measure())
    try:
        await bot.run()
    finally:
        measuring.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(run())
