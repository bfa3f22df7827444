"""What the connector asks of the world: three Protocols and the plain records that cross them.

A back end lives in `bridge/`, keeps one of these Protocols and is proved by the contract suite in
`tests/contract/`; each Protocol has an in-process twin. The records are plain data: no behaviour, no
driver types, only `str`, `int`, `bytes` and `bool`.

Units: every time is Unix time in whole milliseconds. `n` counts 1, 2, 3 … without a gap within one inbox;
`mid` is a server-wide id below 2**53 that rises with `n` within one inbox (see `NewMessage.mid`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Protocol

import msgspec


class Kind(IntEnum):
    """What an inbox item is. Stored as this number; never renumber."""

    CHAT = 1
    """A user's message, topic `inbox/{recipient}/chat/{sender}`."""
    SYSTEM = 2
    """The server's own message, topic `inbox/{recipient}/system/$server`."""


class NewMessage(msgspec.Struct, gc=False):
    """A message to be stored, together with the inbox items that point to it.

    `id` is the sender's idempotency key as JSON text (`"a"` with its quotes, or `17`), so that the string
    "17" and the number 17 stay two keys and receipts can echo it as it came; None means the sender gave none.
    `seq` is the sender's counter per (device, recipient), None when not used; the store keeps the highest.
    `content` is a JSON object in UTF-8. `sync` asks for a second item, in the sender's own inbox, for the
    sender's other devices. `tag` is the caller's and comes back untouched with the batch.

    `mid` is 0 where the store gives one; else it is the message's, below 2**53. A store that nodes share gives odd
    ones; who gives mids gives even ones, and they never meet. They rise with `n` as far as they come in rising order.
    """

    sender: str
    device: str
    recipient: str
    content: bytes
    created: int
    kind: Kind = Kind.CHAT
    id: str | None = None
    seq: int | None = None
    sync: bool = False
    tag: object = None
    mid: int = 0


class CursorMove(msgspec.Struct, gc=False):
    """The device has acknowledged everything up to `cursor`; valid only while `epoch` is its current one."""

    user: str
    device: str
    epoch: int
    cursor: int
    tag: object = None


class Delivered(msgspec.Struct, gc=False):
    """A device of `reader` acknowledged every message of `peer` up to `mid`."""

    reader: str
    peer: str
    mid: int


class Read(msgspec.Struct, gc=False):
    """The app of `reader` says that it has shown every message of `peer` up to `mid`.

    Unless `mid` is that of a stored message from `peer` to `reader`, the store lowers it to the newest item of the
    reader's inbox: whatever `peer` sends later has a higher mid, so nobody reads what was not sent."""

    reader: str
    peer: str
    mid: int


class Batch(msgspec.Struct):
    """What one group commit makes durable, all or nothing.

    `shards` are (shard, epoch): the batch is committed only while nobody has claimed any since (`claim_shard`)."""

    messages: list[NewMessage] = []
    moves: list[CursorMove] = []
    delivered: list[Delivered] = []
    reads: list[Read] = []
    shards: list[tuple[int, int]] = []


class Stored(msgspec.Struct, gc=False):
    """Where a message stands. For a repeat these are the *first* result's values and `repeated` is true.

    `sync_n` is the number of the copy in the sender's own inbox, None where none was asked for. A repeat that is known
    by its `seq` alone is stored, but nobody knows its numbers any more: `mid`, `n` and `created` are 0.
    """

    mid: int
    n: int
    created: int
    sync_n: int | None = None
    repeated: bool = False


class ReceiptState(msgspec.Struct, gc=False):
    """How far `reader` has come with the messages of `peer`: mids, 0 where nothing has happened yet."""

    reader: str
    peer: str
    delivered: int
    read: int


class Committed(msgspec.Struct):
    """The outcome of one batch.

    `stored[i]` belongs to `batch.messages[i]`. `fenced` are the moves refused because their epoch is not the
    current one (promise 6). `receipts` are the states that this batch has *raised*, one per (reader, peer).
    """

    stored: list[Stored]
    fenced: list[CursorMove]
    receipts: list[ReceiptState]


class Item(msgspec.Struct, gc=False):
    """One inbox item with the message it points to. It is a sync copy exactly when `recipient` is not the owner."""

    n: int
    mid: int
    sender: str
    device: str
    recipient: str
    kind: Kind
    content: bytes
    created: int


class Claim(msgspec.Struct, gc=False):
    """A device taken into possession: from now on only `epoch` may move its cursor.

    `head` is the inbox's highest n at the claim. `created` says that the device was not known before.
    """

    epoch: int
    cursor: int
    head: int
    created: bool


class Device(msgspec.Struct, gc=False):
    """One known device of a user."""

    user: str
    device: str
    cursor: int
    epoch: int
    last_seen: int


class Position(msgspec.Struct):
    """Where a user stands: the highest n of the inbox, and the current epoch of every known device."""

    head: int
    epochs: dict[str, int]


class RetainedMessage(msgspec.Struct, gc=False):
    """The retained message of a plain topic `devices/{user}/…`. An empty payload says that there is none."""

    topic: str
    payload: bytes
    qos: int


class StoreUnavailable(Exception):
    """The store cannot be reached or cannot write now (locked, full, down). Nothing of the call has taken effect,
    or all of it has and the caller cannot know; repeating the call is safe either way where messages carry an id."""


class ShardLost(Exception):
    """Somebody else has claimed `shards`: their epochs are not those that the batch names. Nothing is stored."""

    def __init__(self, lost: Sequence[tuple[int, int]]) -> None:
        super().__init__("not current: " + ", ".join(f"epoch {epoch} of shard {shard}" for shard, epoch in lost))
        self.shards = frozenset(shard for shard, _ in lost)


class MidTaken(Exception):
    """A given mid is that of a message of another sender, device or recipient. Nothing of the batch is stored."""

    def __init__(self, mid: int) -> None:
        super().__init__(f"mid {mid} is another message's")
        self.mid = mid


class TooManyDevices(Exception):
    """The user already has the allowed number of devices; `limit` says how many."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a user may have at most {limit} devices")
        self.limit = limit


class Store(Protocol):
    """The durable queues: messages, inboxes, cursors, receipts.

    Promises, all held by the contract suite: a returned `commit` is durable (fsync); a raised one has changed
    nothing that a reader can see, or is `StoreUnavailable`; numbers within an inbox are gap-free and in commit
    order; within a batch, messages get their numbers in list order; (sender, device, id) is one message for ever,
    also within one batch; cursors and receipts never fall.
    A message with a `seq` and no `id` is stored only if its `seq` is higher than every one stored before from this
    (sender, device) to this recipient, by whichever node, also within one batch: else it is a repeat. Where there is
    an `id`, the `id` alone decides.
    A message whose given `mid` is stored is a repeat, also within one batch, unless it is one by its `id`: that decides
    first. A mid that the store gives is higher than all that are stored before, and than those given in its batch.
    Every method may raise `StoreUnavailable`. Methods may be called concurrently, `commit` by one caller at a time.
    """

    async def open(self) -> None:
        """Connects, checks durability settings and the schema version. Raises `StoreUnavailable`."""

    async def close(self) -> None:
        """Finishes what runs and lets go of every resource. Idempotent."""

    async def commit(self, batch: Batch) -> Committed:
        """Makes the whole batch durable, or nothing of it. Raises `ShardLost`; `MidTaken`; `ValueError` for
        a mid out of range."""

    async def claim_shard(self, shard: int) -> int:
        """Raises the epoch of the shard by one and returns it; the first is 1. Waits for a commit of that shard that is
        under way, among others or alone: after the return none of an older epoch takes effect."""

    async def highest_mid(self) -> int:
        """The highest mid of a stored message, 0 if there is none."""

    async def claim(self, user: str, device: str, *, now: int, limit: int) -> Claim:
        """Takes the device: raises its epoch by one and sets `last_seen`. An unknown device is created with the highest
        cursor of the user's devices, 0 if there is none. Raises `TooManyDevices` when it would be number `limit` +
        1."""

    async def release(self, user: str, device: str, *, epoch: int, last_seen: int) -> None:
        """Records when the device was last heard. Does nothing if `epoch` is not the current one."""

    async def items(self, user: str, *, after: int, limit: int) -> list[Item]:
        """The inbox items with n > `after`, rising, at most `limit`."""

    async def head(self, user: str) -> int:
        """The highest n of the inbox, 0 if nothing was ever stored."""

    async def receipts_for(self, peer: str, *, limit: int) -> list[ReceiptState]:
        """How far others have come with what `peer` sent, most recently changed first, at most `limit`."""

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        """The highest committed `seq` from this device to this recipient, 0 if none."""

    async def find(self, user: str, device: str, id: str) -> Stored | None:
        """The first result for this idempotency key, with `repeated` true; None if it was never committed."""

    async def devices(self, user: str) -> list[Device]:
        """The user's known devices, by device id."""

    async def forget_device(self, user: str, device: str) -> bool:
        """Removes the device, its cursor and its counters (`seq`), so that whoever takes its name begins anew; false
        if it was not known."""

    async def positions(self, users: Sequence[str]) -> dict[str, Position]:
        """Where each of the users stands, as of some moment during the call; head 0 and no epochs where nothing is
        known. Takes no locks."""

    async def receipt_changes(self, peers: Sequence[str], *, since: int) -> list[ReceiptState]:
        """How far others have come with what these peers sent, where that was changed at `since` or later. A change
        is stamped by the clock of the node that writes it, just before it commits: a caller who wants to miss nothing
        goes back by as much as clocks may differ and a commit may take."""

    async def last_seen(self, users: Sequence[str]) -> dict[str, int]:
        """When any device of each user was last heard, as `claim` and `release` have noted it; users without a known
        device are left out."""

    async def retain(self, messages: Sequence[RetainedMessage]) -> None:
        """Keeps these as the retained messages of their topics, or removes what was kept there. Durable on return; of
        several of one topic the last counts. Raises `ValueError` for any topic but `devices/{user}/…`."""

    async def retained(self, prefix: str, *, limit: int) -> list[RetainedMessage]:
        """The retained messages of the topics that begin with `prefix`, which is `devices/{user}/` or longer, by topic
        (byte by byte). Of more than `limit` the first ones; topics that differ only behind their first 1,000 bytes
        count as one place in that order. Raises `ValueError` for any other prefix."""


class Writer(Protocol):
    """The group commit, as who writes sees it: plain calls in the event loop, durable only when the batch they went
    into is reported as committed, in the order of these calls."""

    def append(self, message: NewMessage) -> None: ...
    def move(self, move: CursorMove) -> None: ...
    def delivered(self, delivered: Delivered) -> None: ...
    def read(self, read: Read) -> None: ...

    async def flush(self) -> None:
        """Returns when everything handed over so far is committed. Raises `StoreUnavailable` at shutdown."""


class Grant(msgspec.Struct, frozen=True):
    """What a credential proves: who is there, on which device (None: any), until when (None: for ever), under which
    revocable session or token."""

    user: str
    device: str | None
    expires: int | None
    session: str | None


class Directory(Protocol):
    """Who exists and who may write to whom, as the accounts side keeps it. Read-only for the connector.
    Every method may raise `StoreUnavailable`."""

    async def correspondents(self, user: str) -> frozenset[str]:
        """Everyone who may send to `user` and to whom `user` may send: accepted, blocked by neither side."""

    async def token(self, hashed: bytes, *, now: int) -> Grant | None:
        """The grant of a long-lived device token by its SHA-256, None if unknown, expired or revoked; notes its use."""

    async def session_active(self, session: str) -> bool:
        """False once the login session that an access token names was logged out or revoked, or its user disabled."""

    async def user_active(self, user: str) -> bool:
        """Whether there is such an account, and it is not disabled."""

    async def announcements(self, after: int, *, limit: int) -> list[tuple[int, Announcement]]:
        """The entries of the log with numbers above `after`, rising, at most `limit`. A number is drawn before its
        transaction commits, and may be seen later than higher ones: who follows the log reads again what lies some way
        back, as long as a transaction may take, and skips the numbers it has met. Entries older than
        `ANNOUNCEMENTS_KEPT` may be gone."""

    async def newest_announcement(self) -> int:
        """The highest number in the log, 0 if it is empty. To be asked before anything is read that the log is about:
        then what is read is no older than the log from there on."""


ANNOUNCEMENTS_KEPT = 3_600_000
"""Milliseconds for which the log of announcements keeps an entry, at least: a node that has read nothing for so long
starts anew. An hour is far beyond any pause that its clients' connections outlive."""


class Announcement(msgspec.Struct, frozen=True, tag=True):
    """Base of what the accounts side tells the connectors. The announcement itself is a hint that may be lost, doubled
    or late; what it tells of is committed by then, together with an entry in the log of announcements. The log names a
    kind by its class: never rename one."""


class RelationChanged(Announcement, frozen=True):
    """Who may write to whom has changed between these two: forget what was cached."""

    user1: str
    user2: str


class AccessRevoked(Announcement, frozen=True):
    """Connections of this user are no longer allowed: all (`device` and `session` None), those of one device,
    or those opened under one login session or token."""

    user: str
    device: str | None = None
    session: str | None = None


class Bus(Protocol):
    """Carries announcements and wake-ups between the parts of one process, or between nodes."""

    def announce(self, announcement: Announcement, number: int = 0) -> None:
        """Tells every connector, this node's included. `number` is its place in the log of announcements, 0 if it is in
        none: who has had that number already is not told again. Never blocks, never raises for a lost peer."""

    def subscribe(self, handler: BusHandler) -> None:
        """Calls `handler` in the event loop for every announcement from now on."""

    async def settled(self) -> bool:
        """Waits until every connector that is alive has taken what was announced so far, within a bounded time; false
        if that could not be had. Who has not taken it by then finds it in the log."""


class BusHandler(Protocol):
    def __call__(self, announcement: Announcement, /) -> None: ...


class Postbox(Protocol):
    """How the accounts side puts the server's own messages into inboxes."""

    async def post(self, user: str, content: Sequence[bytes]) -> None:
        """Stores the JSON objects as SYSTEM items of the user's inbox and wakes the user's devices. Durable on
        return."""

    async def post_to(self, users: Sequence[str], content: bytes, *, id: str) -> None:
        """The same JSON object to each of the users, in one group commit where it fits; durable on return. Who has been
        sent something under this `id` before does not get it again."""
