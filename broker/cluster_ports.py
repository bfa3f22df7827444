"""What a node asks of the cluster: who holds which device (user status), and a way to the other nodes (transfer).

Both are hints that may be wrong for a while, lost, doubled or late: they decide how soon something happens, never
whether. The truth is in the store (`aldis.broker.ports`). Each Protocol has an in-process twin and one contract suite
over all back ends.

Units: times are Unix time in whole milliseconds unless a name says `seconds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from aldis.broker.core.session_state import SessionState
from aldis.broker.ports import AccessRevoked, RelationChanged

# User status: who holds which device


class Holding(msgspec.Struct, frozen=True, gc=False):
    """One device, held by one node. Of two holdings of the same device the one with the higher `turn` is the later:
    turns rise at every arrival, over all nodes, also when the back end has lost everything in between."""

    user: str
    device: str
    node: str
    turn: int


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A device has come. `previous` is the holding that this one replaces, on whichever living node, this one included;
    None where nobody held it. `first`: until now no device of the user was connected to any living node."""

    holding: Holding
    previous: Holding | None
    first: bool


class StatusUnavailable(Exception):
    """The user status cannot be reached now. What was asked may have taken effect; asking again is safe."""


class StatusEvents(Protocol):
    """What a user status tells its node, in the event loop."""

    def lease_lost(self) -> None:
        """What this node had told may be gone (its lease ran out, the back end was emptied or unreachable): the node
        calls `restore` for all that it holds."""

    def superseded(self) -> None:
        """Another, younger process has taken this node's name. This one must hold nobody any more."""

    def left_behind(self, users: Sequence[str]) -> None:
        """A node has died, and with it the last connection of these users. Told to one living node, at least once."""


class UserStatus(Protocol):
    """Which node holds which device (the article's UserStatusService).

    A holding is *present* (a connection is there) or *away* (a persistent session waits for its device); both count for
    `connectors`, only the first for `present`. Holdings of a node count only while its lease runs, which an open user
    status renews by itself; what a dead node leaves is removed by a living one.
    Every method may raise `StatusUnavailable`, within a bounded time; calls may be made concurrently.
    """

    node: str

    async def open(self, events: StatusEvents) -> None:
        """Takes the node's name and lease, and begins to renew it. A younger process supersedes an older one of the
        same name. An unreachable back end is no error: it is tried until it is there, then `lease_lost` is told."""

    async def close(self) -> None:
        """Gives up the lease and every holding of this node. Idempotent, never raises."""

    async def online(self, devices: Sequence[tuple[str, str]]) -> list[Arrival]:
        """This node now holds these (user, device), connected. One arrival each, in order."""

    async def away(self, holdings: Sequence[Holding]) -> list[bool]:
        """These connections have ended, their persistent sessions stay here. Only holdings that are still the current
        ones change (compare before set). True where the user has no connected device left on any living node."""

    async def offline(self, holdings: Sequence[Holding]) -> list[bool]:
        """These sessions are gone. Only holdings that are still the current ones are removed (compare before delete).
        True where the user has no connected device left on any living node, and this call changed that."""

    async def restore(self, holdings: Sequence[Holding], present: Sequence[bool]) -> list[Holding | None]:
        """Says again what this node holds, connected or away. Each is put back under its own turn, unless another
        living node holds the device under a higher one: then that holding is the answer, else None. A turn that the
        node made up while the user status was unavailable is its clock in microseconds."""

    async def connectors(self, users: Sequence[str]) -> dict[str, frozenset[str]]:
        """For each user the living nodes that hold a device of it, present or away; empty where there is none."""

    async def present(self, users: Sequence[str]) -> frozenset[str]:
        """Those of the users who have a connected device on a living node."""


# Transfer: parcels between nodes


class Parcel(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of what one node sends another. Never renumber a tag or change a field: frames have a version for that."""


class Inlined(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One inbox item as a device receives it: `kind` 1 chat, 2 system, 3 sync; `peer` as in the topic's last level;
    `origin` is the sending device of a sync copy, else empty; `payload` is the rendered MQTT payload."""

    n: int
    mid: int
    kind: int
    peer: str
    origin: str
    payload: bytes


class WakeUp(Parcel, frozen=True, tag=1):
    """The inbox of `user` has reached `head`. `items` are the newest, in rising n, the last of them `head`; empty where
    they are too large to be carried."""

    user: str
    head: int
    items: tuple[Inlined, ...] = ()


class Passed(Parcel, frozen=True, tag=2):
    """A message to be routed to the subscribers of the receiving node, not further: receipts, typing, presence, and
    plain topics. `retain` says that it is now the topic's retained message, too (empty payload: that there is none)."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False


class Attached(Parcel, frozen=True, tag=3):
    """The sending node now holds a device of each of these users."""

    users: tuple[str, ...]


class Detached(Parcel, frozen=True, tag=4):
    """The sending node holds no device of these users any more."""

    users: tuple[str, ...]


class TakenOver(Parcel, frozen=True, tag=5):
    """The sending node holds this device since `turn`: whoever held it under a lower one lets go of it. `clean`: the
    session that the receiving node keeps for it ends; else it is handed over (`SessionHanded`)."""

    user: str
    device: str
    turn: int
    clean: bool


class SessionHanded(Parcel, frozen=True, tag=6):
    """The answer to `TakenOver` without `clean`, in one parcel or several: what the old node has kept of the persistent
    session. `known` is false where it has none, and only there `state` is None. The parcels of one hand-over are
    numbered 1, 2, 3 … (`part`), the last one is marked; if one is missing, all of it is void and the session is
    new."""

    user: str
    device: str
    turn: int
    known: bool
    part: int = 1
    last: bool = True
    state: SessionState | None = None


class Announced(Parcel, frozen=True, tag=7):
    """What the accounts side announces. `number` is its place in the log of announcements, 0 if it is in none."""

    announcement: RelationChanged | AccessRevoked
    number: int = 0


class DeviceMade(Parcel, frozen=True, tag=8):
    """The user has a new device: from now on what its other devices send is copied to it, too."""

    user: str
    device: str


class LeftBehind(Parcel, frozen=True, tag=9):
    """A node has died, and with it the last connection of these users. From a process that cannot tell their friends:
    every node may do so, since it is true however often it is said."""

    users: tuple[str, ...]


class Told(Parcel, frozen=True, tag=10):
    """For one device of a user, about what it sent to `peer`: the message with this `id` (JSON text) is, after all, the
    older one `mid` of the time `ts`."""

    user: str
    device: str
    peer: str
    id: str | None
    seq: int | None
    mid: int
    ts: int


AnyParcel = (
    WakeUp | Passed | Attached | Detached | TakenOver | SessionHanded | Announced | DeviceMade | LeftBehind | Told
)
"""Everything that a frame may carry."""


class Receiver(Protocol):
    """What a transfer tells its node, in the event loop."""

    def received(self, source: str, parcels: Sequence[AnyParcel]) -> None:
        """The parcels of one frame, in the order in which `source` sent them. A frame is handed over at most once."""

    def missed(self, source: str | None) -> None:
        """Something that `source` (None: any node) sent was lost, or may have been."""

    def joined(self, node: str) -> None:
        """A node is heard for the first time, or again after `gone`, or is another process now. Told before the first
        frame of it."""

    def gone(self, node: str) -> None:
        """A node has not been heard for long, or has said good-bye."""


class Transfer(Protocol):
    """The way to the other nodes: at most once, in order for each pair of nodes, and the receiver learns that something
    is missing (a hole in the numbers of frames, a broken or silent link) within about `silence` seconds of its setting.

    Frames carry a keyed digest: what does not come from a node with the cluster's key, is meant for another node, has
    come before or is too old, is dropped, counted and logged once in a while.
    """

    node: str

    @property
    def connected(self) -> bool:
        """Whether our own heartbeat came back lately: what others sent us lately has come, too."""

    @property
    def heard(self) -> float:
        """When (the event loop's time, in seconds) the newest of our own heartbeats that came back had been sent;
        minus infinity before the first."""

    @property
    def peers(self) -> Mapping[str, float]:
        """The other nodes that are alive, and when (loop time) each was last heard."""

    def counters(self) -> Mapping[str, int]:
        """What it has done since the process began, by names for the metrics; they only rise."""

    async def open(self, receiver: Receiver) -> None:
        """Begins to send and to receive. An unreachable back end is no error: it is tried for as long as it takes."""

    async def close(self) -> None:
        """Sends what waits, says good-bye, ends. Idempotent, never raises."""

    def send(self, node: str, parcel: AnyParcel) -> None:
        """To one node, at the end of this tick, in one frame with whatever else goes there. Never blocks, never raises.
        Beyond a bound, or without a connection, it is dropped, and the receiver learns that it missed something."""

    def tell(self, parcel: AnyParcel) -> None:
        """To every other node, likewise."""

    async def settled(self, seconds: float) -> bool:
        """Waits until every living node has handled what was told (`tell`) by now; false if `seconds` pass before."""
