"""What the connector hands its own plugins, through amqtt's context object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from aldis.bridge.credentials import AccessTokens
from aldis.broker.cluster import Cluster
from aldis.broker.correspondents import Correspondents
from aldis.broker.holdings import Holdings
from aldis.broker.inboxes import Inboxes
from aldis.broker.node import Node
from aldis.broker.ports import Bus, Directory
from aldis.config.settings import Settings


class GroupFigures(Protocol):
    """What a group commit tells of itself."""

    @property
    def pending(self) -> int: ...
    @property
    def available(self) -> bool: ...


class JournalFigures(Protocol):
    """What a journal tells of itself."""

    def counters(self) -> Mapping[str, int]: ...
    async def gauges(self) -> Mapping[str, float]: ...


class MissingServices(Exception):
    """An Aldis plugin is configured on a node that has nothing for it: the lab profile, or amqtt's own broker."""


@dataclass
class Services:
    """The parts of a node that have inboxes and accounts. `settings` are others after a reload: look them up when they
    are needed."""

    settings: Settings
    node: Node
    inboxes: Inboxes
    directory: Directory
    tokens: AccessTokens
    bus: Bus
    holdings: Holdings
    now_ms: Callable[[], int]
    cluster: Cluster | None = None
    journal: JournalFigures | None = None
    correspondents: Correspondents = field(init=False)
    """Shared by the plugins that need them, so that they are read once."""

    def __post_init__(self) -> None:
        self.correspondents = Correspondents(self.directory, self.bus, self.node.spawn)


def node_of(context: Any) -> Node:
    """The node that loaded the plugin; every profile has one. Raises `MissingServices`."""
    node = getattr(context, "node", None)
    if not isinstance(node, Node):
        raise MissingServices("this plugin needs Aldis' connector")
    return node


def writer_of(context: Any) -> GroupFigures | None:
    """The group commit as the metrics see it, None on a node without a store."""
    services = getattr(context, "services", None)
    return cast("GroupFigures", services.inboxes.writer) if isinstance(services, Services) else None


def cluster_of(context: Any) -> Cluster | None:
    """The cluster as the metrics see it, None on a node without others."""
    services = getattr(context, "services", None)
    return services.cluster if isinstance(services, Services) else None


def journal_of(context: Any) -> JournalFigures | None:
    """The journal as the metrics see it, None on a node without one."""
    services = getattr(context, "services", None)
    return services.journal if isinstance(services, Services) else None


def services_of(context: Any) -> Services:
    """The services of the node that loaded the plugin. Raises `MissingServices`."""
    services = getattr(context, "services", None)
    if not isinstance(services, Services):
        raise MissingServices("this plugin needs a node with a store and accounts (store.backend is 'none'?)")
    return services
