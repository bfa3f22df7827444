"""The composition root's part for what the accounts side tells the nodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from aldis.accounts_api.secrets_file import Secrets
from aldis.bridge.bus import LocalBus
from aldis.broker.background import Background
from aldis.broker.cluster import Links
from aldis.broker.cluster_bus import ClusterBus
from aldis.broker.cluster_ports import AnyParcel, Attached, Detached, LeftBehind
from aldis.broker.compose_cluster import links
from aldis.broker.elsewhere import RECENT, Elsewhere
from aldis.broker.inbox_items import live_item
from aldis.broker.ports import Batch, Bus, Committed, Directory
from aldis.config.cluster import Cluster as ClusterSettings
from aldis.config.settings import Settings

logger = logging.getLogger(__name__)


class Outlet(Protocol):
    """The way from a process without connections to the nodes that have them. What it carries are hints."""

    bus: Bus

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Wakes the nodes that hold devices of whoever got something with this batch. For `GroupCommit`."""

    def gauges(self) -> Mapping[str, float]:
        """What is true now of the way to the nodes, by names for the metrics."""

    def counters(self) -> Mapping[str, float]:
        """What only rises, by names for the metrics."""

    async def close(self) -> None:
        """Sends what waits, then ends. Idempotent."""


class InProcess:
    """Where there are no other nodes to tell."""

    def __init__(self) -> None:
        self.bus: Bus = LocalBus()

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Nobody is connected to this process."""

    def gauges(self) -> Mapping[str, float]:
        """There is no way."""
        return {}

    def counters(self) -> Mapping[str, float]:
        """There is no way."""
        return {}

    async def close(self) -> None:
        """Nothing waits."""


class ToNodes:
    """Among nodes, but holding no devices. Keeps `Outlet`, and `Receiver` and `StatusEvents` as far as they concern
    it: it has to know where users are."""

    def __init__(self, way: Links, directory: Directory, settings: ClusterSettings) -> None:
        self.bus: Bus = ClusterBus(LocalBus(), way.transfer, directory, settings.settle)
        self._way = way
        self._background = Background()
        self._elsewhere = Elsewhere(
            way.transfer, way.status, self._background.spawn, max_known_users=settings.max_known_users
        )
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        self._next_period()
        await self._way.status.open(self)
        await self._way.transfer.open(self)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._background.settle(1.0)
        await self._way.transfer.close()
        await self._way.status.close()

    def _next_period(self) -> None:
        self._elsewhere.whereabouts.next_period()
        self._timer = asyncio.get_running_loop().call_later(RECENT, self._next_period)

    def committed(self, batch: Batch, committed: Committed) -> None:
        for message, stored in zip(batch.messages, committed.stored, strict=True):
            if not stored.repeated and self._elsewhere.concerns(message.recipient, stored.n):
                self._elsewhere.item(message.recipient, live_item(message, stored.n, stored.mid))
        self._elsewhere.send_items()

    def gauges(self) -> Mapping[str, float]:
        transfer, known = self._way.transfer, self._elsewhere.whereabouts.known
        return {
            "cluster_connected": transfer.connected,
            "cluster_peers": len(transfer.peers),
            "cluster_known_users": len(known),
        }

    def counters(self) -> Mapping[str, float]:
        counted = {f"transfer_{name}": count for name, count in self._way.transfer.counters().items()}
        return {**counted, "transfer_unaddressed": self._elsewhere.unaddressed}

    # What the nodes say

    def received(self, source: str, parcels: Sequence[AnyParcel]) -> None:
        for parcel in parcels:
            if isinstance(parcel, Attached):
                self._elsewhere.attached(source, parcel.users)
            elif isinstance(parcel, Detached):
                self._elsewhere.whereabouts.detached(source, parcel.users)

    def missed(self, source: str | None) -> None:
        self._elsewhere.whereabouts.missed()

    def joined(self, node: str) -> None:
        self._elsewhere.whereabouts.missed()

    def gone(self, node: str) -> None:
        self._elsewhere.whereabouts.gone(node)

    # What the user status says

    def lease_lost(self) -> None:
        """Nothing is held here."""

    def superseded(self) -> None:
        logger.error(
            "another process has taken the name %s; what is announced goes out all the same", self._way.status.node
        )

    def left_behind(self, users: Sequence[str]) -> None:
        """We have cleared up after a dead node, but know nobody's friends."""
        self._way.transfer.tell(LeftBehind(tuple(users)))


async def open_bus(settings: Settings, secrets: Secrets, directory: Directory) -> Outlet:
    """The outlet for these settings, ready to use; an unreachable Redis is no error."""
    if settings.cluster is None:
        return InProcess()
    name = f"accounts.{settings.cluster.node}"[:64]
    outlet = ToNodes(links(settings.cluster, secrets.transfer_key, name=name), directory, settings.cluster)
    await outlet.open()
    return outlet
