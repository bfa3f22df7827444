"""This node among others: what comes from them, what is told to them, and what is done when something was missed.

from other nodes   Cluster.received   WakeUp -> Inboxes.woken        Passed -> Router.publish
                                      Attached, Detached -> Whereabouts
                                      TakenOver, SessionHanded -> Takeovers
                                      Announced -> ClusterBus        DeviceMade -> Inboxes.device_made
something missing  Cluster.missed     what is remembered of others is forgotten, the store is read again (Sweep)
user status        lease_lost -> Holdings.restore    superseded -> everybody is sent away    left_behind -> presence
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aldis.broker.acceptance import tell_sender
from aldis.broker.cluster_ports import (
    Announced,
    AnyParcel,
    Attached,
    Detached,
    DeviceMade,
    LeftBehind,
    Passed,
    SessionHanded,
    StatusUnavailable,
    TakenOver,
    Told,
    Transfer,
    UserStatus,
    WakeUp,
)
from aldis.broker.core.packets import Message
from aldis.broker.core.reasons import CloseReason
from aldis.broker.elsewhere import RECENT, SYNC, SYSTEM, Elsewhere
from aldis.broker.holdings import AT_ONCE, Holdings
from aldis.broker.inboxes import Inboxes
from aldis.broker.ownership import Ownership
from aldis.broker.pipeline import INBOX_LEVELS, SERVER
from aldis.broker.ports import RetainedMessage
from aldis.broker.sweep import Sweep
from aldis.broker.takeover import Takeovers

if TYPE_CHECKING:
    from aldis.config.cluster import Cluster as ClusterSettings

logger = logging.getLogger(__name__)

SUPERSEDED = "another process has taken this node's name"


class RemoteAnnouncements(Protocol):
    """The bus, as far as announcements of other nodes concern it."""

    def heard(self, announced: Announced) -> None:
        """Another node has announced this."""

    async def read_log(self) -> None:
        """Handles what is in the log of announcements and was not heard. Raises `StoreUnavailable`."""


class RetainedElsewhere(Protocol):
    """Who keeps retained messages, as far as other nodes concern it."""

    def changed_elsewhere(self, topic: str, payload: bytes, qos: int) -> None: ...
    def recent(self, user: str) -> Sequence[RetainedMessage]: ...
    def doubt(self) -> None: ...


class Links(NamedTuple):
    """What connects this node with the others."""

    transfer: Transfer
    status: UserStatus


class Cluster:
    """Keeps `Receiver` and `StatusEvents` of `aldis.broker.cluster_ports`."""

    def __init__(
        self,
        inboxes: Inboxes,
        links: Links,
        bus: RemoteAnnouncements,
        retained: RetainedElsewhere | None,
        settings: ClusterSettings,
    ) -> None:
        node, transfer = inboxes.node, links.transfer
        now = asyncio.get_running_loop().time
        self._node = node
        self._inboxes = inboxes
        self.way = links
        self._transfer = transfer
        self._bus = bus
        self._retained = retained
        self._elsewhere = node.elsewhere = Elsewhere(
            transfer, links.status, node.spawn, max_known_users=settings.max_known_users
        )
        self.holdings = Holdings(links.status, lambda: inboxes.now_ms() * 1_000, patience=settings.status_timeout)
        self._takeovers = node.arrivals = Takeovers(node, self.holdings, transfer, patience=settings.hand_over)
        self._ownership = inboxes.feeding.ownership = Ownership(lambda: transfer.heard, now, settings.ownership)
        self.sweep = Sweep(
            inboxes,
            self._ownership,
            connected=lambda: transfer.connected,
            read_log=bus.read_log,
            interval=settings.sweep,
            interval_unconnected=settings.sweep_unconnected,
        )
        self._restoring = False
        self._next_restore = 0.0
        self._next_period = 0.0
        self._connected = True
        self._receivers: dict[type[AnyParcel], Callable[[str, Any], None]] = {
            WakeUp: self._wake_up,
            Passed: self._passed,
            Attached: self._attached,
            Detached: self._detached,
            TakenOver: self._takeovers.taken_over,
            SessionHanded: self._session_handed,
            Announced: self._announced,
            DeviceMade: self._device_made,
            LeftBehind: lambda _, parcel: self.left_behind(parcel.users),
            Told: lambda _, parcel: tell_sender(node, parcel),
        }
        inboxes.tell_device = self._tell_device
        self._settle = settings.settle
        self.holdings.on_users.append(self._users_changed)
        node.on_tick.append(self._tick)

    async def open(self) -> None:
        """Joins the others; their absence is no error."""
        await self.way.status.open(self)
        await self._transfer.open(self)
        self._node.spawn(self.sweep.run(), "sweep")

    async def close(self) -> None:
        """Leaves, so that nobody has to wait for our lease to run out."""
        await self.holdings.close()
        await self._transfer.close()
        await self.way.status.close()

    # For the operator

    def counters(self) -> dict[str, int]:
        """By names for the metrics; they only rise."""
        counted = {f"transfer_{name}": count for name, count in self._transfer.counters().items()}
        counted["transfer_unaddressed"] = self._elsewhere.unaddressed
        counted["sweeps"] = self.sweep.rounds
        return counted

    def gauges(self) -> dict[str, float]:
        """What is true now, by names for the metrics."""
        return {
            "cluster_connected": self._transfer.connected,
            "cluster_peers": len(self._transfer.peers),
            "cluster_owner": self._ownership.certain(),
            "cluster_held_devices": len(self.holdings),
            "cluster_known_users": len(self._elsewhere.whereabouts.known),
        }

    # What this node says of itself

    def _users_changed(self, user: str, there: bool) -> None:
        self._transfer.tell(Attached((user,)) if there else Detached((user,)))

    async def _tell_device(self, user: str, device: str) -> None:
        self._transfer.tell(DeviceMade(user, device))
        await self._transfer.settled(self._settle)

    # What others say

    def received(self, source: str, parcels: Sequence[AnyParcel]) -> None:
        for parcel in parcels:
            try:
                self._receivers[type(parcel)](source, parcel)
            except Exception:
                # one parcel's trouble must not be that of the others
                kind = type(parcel).__name__
                logger.exception("failure while handling a parcel", extra={"node": source, "kind": kind})
                self.sweep.soon()

    def _wake_up(self, _: str, parcel: WakeUp) -> None:
        user = parcel.user
        items = []
        for item in parcel.items:
            if item.kind == SYNC:
                topic = f"inbox/{user}/sync/{user}"
            elif item.kind == SYSTEM:
                topic = f"inbox/{user}/system/{SERVER}"
            else:
                topic = f"inbox/{user}/chat/{item.peer}"
            items.append(Message(topic, item.payload, n=item.n, mid=item.mid, peer=item.peer, origin=item.origin))
        self._inboxes.woken(user, parcel.head, items)

    def _passed(self, _: str, parcel: Passed) -> None:
        if parcel.retain and self._retained is not None:
            self._retained.changed_elsewhere(parcel.topic, parcel.payload, parcel.qos)
        message = Message(parcel.topic, parcel.payload, parcel.qos)
        levels = parcel.topic.split("/")
        if levels[0] == "inbox" and len(levels) == INBOX_LEVELS:
            if levels[2] == "receipt":
                self._inboxes.receipts.heard(levels[1], levels[3], parcel.payload)
            else:
                self._node.pass_on_here(levels[2], message)
        else:
            self._node.router.publish(message)

    def _attached(self, source: str, parcel: Attached) -> None:
        self._elsewhere.attached(source, parcel.users)
        if self._retained is not None:
            for user in parcel.users:
                for kept in self._retained.recent(user):  # likewise
                    self._transfer.send(source, Passed(kept.topic, kept.payload, kept.qos, retain=True))

    def _detached(self, source: str, parcel: Detached) -> None:
        self._elsewhere.whereabouts.detached(source, parcel.users)

    def _session_handed(self, _: str, parcel: SessionHanded) -> None:
        self._takeovers.session_handed(parcel)

    def _announced(self, _: str, parcel: Announced) -> None:
        self._bus.heard(parcel)

    def _device_made(self, _: str, parcel: DeviceMade) -> None:
        self._inboxes.device_made(parcel.user, parcel.device)

    # What may have been missed

    def missed(self, source: str | None) -> None:
        logger.info("something from other nodes was missed, reading positions again", extra={"node": source or "any"})
        self._elsewhere.whereabouts.missed()
        self._ownership.doubt()
        if self._retained is not None:
            self._retained.doubt()
        self.holdings.doubt()
        self.sweep.soon()

    def joined(self, node: str) -> None:
        logger.info("node joined", extra={"node": node})
        self._elsewhere.whereabouts.missed()
        self.sweep.soon()  # its process before this one may have died between a commit and telling us

    def gone(self, node: str) -> None:
        logger.warning("node gone", extra={"node": node})
        self._elsewhere.whereabouts.gone(node)
        self.sweep.soon()

    # What the user status says

    def lease_lost(self) -> None:
        logger.warning("the user status has lost what this node had told it; telling it again")
        self.holdings.unregistered = True
        self._next_restore = 0.0

    def superseded(self) -> None:
        logger.error("%s: everybody is sent away", SUPERSEDED)
        self._node.not_ready_reasons.add(SUPERSEDED)
        for connection in list(self._node.connections):
            connection.end(CloseReason.SUPERSEDED)

    def left_behind(self, users: Sequence[str]) -> None:
        for user in users:
            for hook in self.holdings.on_presence:
                hook(user, False)

    # Time

    def _tick(self, now: float) -> None:
        connected = self._transfer.connected
        if connected is not self._connected:
            self._connected = connected
            if connected:
                logger.info("the link to the other nodes is up")
            else:
                logger.warning("the link to the other nodes is down: positions are read from the store instead")
        if now >= self._next_period:
            self._next_period = now + RECENT
            self._elsewhere.whereabouts.next_period()
        if self.holdings.unregistered and not self._restoring and now >= self._next_restore:
            self._restoring = True
            self._next_restore = now + 1.0
            self._node.spawn(self._restore(), "restore the user status")

    async def _restore(self) -> None:
        try:
            for lost in await self.holdings.restore():
                holding = lost.holding
                self._takeovers.lost(holding.user, holding.device)
            # Whoever has asked the user status before it knew us again believes that these users are not here.
            if users := self.holdings.users():
                for at in range(0, len(users), AT_ONCE):
                    self._transfer.tell(Attached(tuple(users[at : at + AT_ONCE])))
                await self._transfer.settled(self._settle)
                self.sweep.soon()
        except StatusUnavailable:
            return
        finally:
            self._restoring = False
