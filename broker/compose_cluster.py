"""The composition root's part for nodes: one that is alone, and one among others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aldis.broker.cluster import Cluster, Links, RetainedElsewhere
from aldis.broker.cluster_bus import ClusterBus
from aldis.broker.compose_store import shown_to_server
from aldis.broker.holdings import Holdings
from aldis.broker.inboxes import Inboxes
from aldis.broker.node import Node
from aldis.broker.ports import Bus, Directory
from aldis.broker.takeover import Takeovers

if TYPE_CHECKING:
    from aldis.bridge.redis_server import RedisServer
    from aldis.config.cluster import Cluster as ClusterSettings


class Nobody:
    """Keeps `StatusEvents` for a node without others: nothing of that can happen."""

    def lease_lost(self) -> None:
        """There is nobody who could lose it."""

    def superseded(self) -> None:
        """There is nobody to take the name."""

    def left_behind(self, users: Sequence[str]) -> None:
        """There is nobody to leave anybody behind."""


async def alone(node: Node) -> Holdings:
    """A node without others: it knows by itself who is there."""
    from aldis.bridge.memory_status import MemoryUserStatus

    status = MemoryUserStatus("")
    await status.open(Nobody())
    holdings = Holdings(status, lambda: 0, patience=1.0)
    node.arrivals = Takeovers(node, holdings)
    return holdings


def links(settings: ClusterSettings, key: bytes, *, name: str | None = None) -> Links:
    """The way to the other nodes, not open yet. Raises `StartFailed` for a file that cannot be read."""
    from aldis.bridge.framed_transfer import TransferLimits
    from aldis.bridge.redis_status import RedisUserStatus
    from aldis.bridge.redis_transfer import RedisTransfer

    server, node = redis_server(settings), name or settings.node
    limits = TransferLimits(
        heartbeat=settings.heartbeat,
        silence=settings.silence,
        peer_timeout=settings.peer_timeout,
        max_frame_size=settings.max_frame_size,
        max_waiting_bytes=settings.max_waiting_bytes,
        max_frame_age=settings.max_frame_age,
    )
    return Links(
        RedisTransfer(node, server, key=key, prefix=settings.prefix, limits=limits),
        RedisUserStatus(server, node, prefix=settings.prefix, lease=settings.lease),
    )


def redis_server(settings: ClusterSettings) -> RedisServer:
    """Where Redis is. Raises `StartFailed` for a file that cannot be read or is no certificate."""
    from aldis.bridge.redis_server import RedisServer

    names = "cluster.redis_password_file or cluster.redis_tls"
    password, tls = shown_to_server(settings.redis_password_file, settings.redis_tls, names)
    return RedisServer(
        settings.redis_url.get_secret_value(),
        password=password,
        tls=tls,
        connect_timeout=settings.connect_timeout,
        answer_timeout=settings.answer_timeout,
    )


def among_others(
    inboxes: Inboxes,
    connected_by: Links,
    local: Bus,
    directory: Directory,
    retained: RetainedElsewhere | None,
    settings: ClusterSettings,
) -> tuple[Cluster, ClusterBus]:
    """A node of several, not open yet, and the bus over all of them."""
    bus = ClusterBus(local, connected_by.transfer, directory, settings.settle)
    inboxes.node.name = connected_by.transfer.node
    return Cluster(inboxes, connected_by, bus, retained, settings), bus
