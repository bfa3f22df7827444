"""What the store reads from MySQL: every function is one statement in autocommit, and so one moment of the database."""

from __future__ import annotations

from aldis.bridge.mysql_literals import number, text
from aldis.bridge.mysql_server import BoundedConnection
from aldis.broker.ports import Device, Item, Kind, ReceiptState, Stored

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


async def devices(driver: BoundedConnection, user: str) -> list[Device]:
    rows = await driver.run(DEVICES % text(user))
    return [Device(user, str(device, "utf-8"), cursor, epoch, seen) for device, cursor, epoch, seen in rows]
