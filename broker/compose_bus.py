"""The composition root's part for what the accounts side tells the nodes."""

from __future__ import annotations

from typing import Protocol

from aldis.accounts_api.secrets_file import Secrets
from aldis.bridge.bus import LocalBus
from aldis.broker.ports import Batch, Bus, Committed
from aldis.config.settings import Settings


class Outlet(Protocol):
    """The way from a process without connections to the nodes that have them. What it carries are hints."""

    bus: Bus

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Wakes the nodes that hold devices of whoever got something with this batch. For `GroupCommit`."""

    async def close(self) -> None:
        """Sends what waits, then ends. Idempotent."""


class InProcess:
    """Where there are no other nodes to tell."""

    def __init__(self) -> None:
        self.bus = LocalBus()

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Nobody is connected to this process."""

    async def close(self) -> None:
        """Nothing waits."""


async def open_bus(settings: Settings, secrets: Secrets) -> Outlet:
    """The outlet for these settings, ready to use; an unreachable Redis is no error."""
    return InProcess()
