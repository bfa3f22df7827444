"""What the store reads from MySQL, in autocommit: a statement is one moment of the database, and takes no locks. Who
asks about many users at once gets one statement, or two, for each portion of them; all else is one statement."""

from __future__ import annotations

from collections.abc import Sequence

from aldis.bridge.mysql_batch import HEADS
from aldis.bridge.mysql_literals import listed, number, portions, text
from aldis.bridge.mysql_server import BoundedConnection
from aldis.broker.ports import Device, Item, Kind, Position, ReceiptState, Stored

ITEMS = (
    b"SELECT inbox.n, inbox.mid, message.sender, message.device, message.recipient, message.kind, message.content, "
    b"message.created FROM im_offline AS inbox JOIN im_message AS message ON message.mid = inbox.mid "
    b"WHERE inbox.to_user_id = %b AND inbox.n > %b ORDER BY inbox.n LIMIT %b"
)

HEAD = b"SELECT head FROM im_inbox WHERE user_id = %b"

RECEIPTS = (
    b"SELECT reader, delivered_mid, read_mid FROM im_receipt WHERE peer = %b ORDER BY updated DESC, reader LIMIT %b"
)

LAST_SEQ = b"SELECT seq FROM im_sequence WHERE sender = %b AND device = %b AND recipient = %b"

FIND = b"SELECT mid, n, created, sync_n FROM im_message WHERE sender = %b AND device = %b AND id = %b"

DEVICES = b"SELECT device_id, inbox_cursor, epoch, last_seen FROM im_device WHERE user_id = %b ORDER BY device_id"

EPOCHS = b"SELECT user_id, device_id, epoch FROM im_device WHERE user_id IN (%b)"

RECEIPT_CHANGES = b"SELECT reader, peer, delivered_mid, read_mid FROM im_receipt WHERE peer IN (%b) AND updated >= %b"

LAST_SEEN = b"SELECT user_id, MAX(last_seen) FROM im_device WHERE user_id IN (%b) GROUP BY user_id"

HIGHEST_MID = b"SELECT COALESCE(MAX(mid), 0) FROM im_message"

KINDS = {int(kind): kind for kind in Kind}


async def items(driver: BoundedConnection, user: str, after: int, limit: int) -> list[Item]:
    rows = await driver.run(ITEMS % (text(user), number(after), number(max(limit, 0))))
    return [
        Item(n, mid, str(sender, "utf-8"), str(device, "utf-8"), str(recipient, "utf-8"), KINDS[kind], content, created)
        for n, mid, sender, device, recipient, kind, content, created in rows
    ]


async def head(driver: BoundedConnection, user: str) -> int:
    rows = await driver.run(HEAD % text(user))
    return int(rows[0][0]) if rows else 0


async def receipts_for(driver: BoundedConnection, peer: str, limit: int) -> list[ReceiptState]:
    rows = await driver.run(RECEIPTS % (text(peer), number(max(limit, 0))))
    return [ReceiptState(str(reader, "utf-8"), peer, delivered, read) for reader, delivered, read in rows]


async def last_seq(driver: BoundedConnection, user: str, device: str, recipient: str) -> int:
    rows = await driver.run(LAST_SEQ % (text(user), text(device), text(recipient)))
    return int(rows[0][0]) if rows else 0


async def find(driver: BoundedConnection, user: str, device: str, id: str) -> Stored | None:
    rows = await driver.run(FIND % (text(user), text(device), text(id)))
    if not rows:
        return None
    mid, n, created, sync_n = rows[0]
    return Stored(mid, n, created, sync_n, True)


async def highest_mid(driver: BoundedConnection) -> int:
    return int((await driver.run(HIGHEST_MID))[0][0])


async def devices(driver: BoundedConnection, user: str) -> list[Device]:
    rows = await driver.run(DEVICES % text(user))
    return [Device(user, str(device, "utf-8"), cursor, epoch, seen) for device, cursor, epoch, seen in rows]


async def positions(driver: BoundedConnection, users: Sequence[str]) -> dict[str, Position]:
    found = {user: Position(0, {}) for user in users}
    for portion in portions(list(found)):
        wanted = listed(map(text, portion))
        for user, head in await driver.run(HEADS % wanted):
            found[str(user, "utf-8")].head = head
        for user, device, epoch in await driver.run(EPOCHS % wanted):
            found[str(user, "utf-8")].epochs[str(device, "utf-8")] = epoch
    return found


async def receipt_changes(driver: BoundedConnection, peers: Sequence[str], since: int) -> list[ReceiptState]:
    states: list[ReceiptState] = []
    for portion in portions(sorted(set(peers))):
        for reader, peer, *marks in await driver.run(RECEIPT_CHANGES % (listed(map(text, portion)), number(since))):
            states.append(ReceiptState(str(reader, "utf-8"), str(peer, "utf-8"), marks[0], marks[1]))
    return states


async def last_seen(driver: BoundedConnection, users: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for portion in portions(users):
        found.update(
            (str(user, "utf-8"), seen) for user, seen in await driver.run(LAST_SEEN % listed(map(text, portion)))
        )
    return found
