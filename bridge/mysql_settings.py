"""What a server must be like before it is trusted with messages: read at every new connection that writes, because an
operator can change it at any time."""

from __future__ import annotations

from typing import NamedTuple

from aldis.bridge.mysql_server import BoundedConnection
from aldis.bridge.not_yet import NotYet
from aldis.bridge.schema import REVISION
from aldis.broker.ports import StoreUnavailable

VARIABLES = b"""SHOW VARIABLES WHERE Variable_name IN ('innodb_flush_log_at_trx_commit', 'log_bin', 'sync_binlog',
'binlog_format', 'max_allowed_packet', 'auto_increment_increment', 'auto_increment_offset')"""

TABLES = (
    b"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'alembic_version'"
)

FOUND = b"SELECT version_num FROM alembic_version"

MARGIN = 65_536
"""Bytes of a statement beside its one large value."""


class Found(NamedTuple):
    """`packet`: bytes of the longest statement; `step` and `offset`: which ids the server draws for this session, every
    `step`-th from `offset` on."""

    packet: int
    step: int
    offset: int


async def check_server(driver: BoundedConnection, *, flush_every_second: bool, largest: int) -> Found:
    """Raises `StoreUnavailable` unless a commit is durable, or as good as `flush_every_second` allows, and a statement
    may be `largest` bytes long."""
    found = {str(name).lower(): str(value) for name, value in await driver.run(VARIABLES)}
    _check_durability(found, flush_every_second=flush_every_second)
    packet = int(found.get("max_allowed_packet", 1_048_576))
    if packet < largest + MARGIN:
        raise StoreUnavailable(
            f"max_allowed_packet of the database server is {packet}, the largest message needs {largest + MARGIN}"
        )
    step, offset = (int(found.get(f"auto_increment_{name}", 1)) for name in ("increment", "offset"))
    return Found(packet - MARGIN // 2, step, min(offset, step))


async def draw_odd_ids(driver: BoundedConnection, found: Found) -> int:
    """From here on this session's ids are odd, and still other ones than those of servers that are set to draw each
    their own. Even ones are for who gives ids (the journal): one that still waits there must not be drawn meanwhile.
    Returns the distance between consecutive ids of one INSERT."""
    step = 2 * found.step
    await driver.run(
        b"SET SESSION auto_increment_increment = %d, SESSION auto_increment_offset = %d" % (step, 2 * found.offset - 1)
    )
    return step


def _check_durability(found: dict[str, str], *, flush_every_second: bool) -> None:
    flush = found.get("innodb_flush_log_at_trx_commit")
    allowed = ("1", "2") if flush_every_second else ("1",)
    if flush not in allowed:
        raise StoreUnavailable(
            f"innodb_flush_log_at_trx_commit of the database server is {flush}: a commit would not be on disk when it "
            "is acknowledged. Set it to 1"
            + ("" if flush != "2" or flush_every_second else ", or allow 2 by store.flush_every_second")
        )
    if found.get("log_bin", "OFF").upper() not in ("ON", "1"):
        return
    if found.get("sync_binlog") != "1" and not flush_every_second:
        raise StoreUnavailable(
            f"sync_binlog of the database server is {found.get('sync_binlog')}: after a power cut its replicas know "
            "other messages than itself. Set it to 1, or allow this by store.flush_every_second"
        )
    if found.get("binlog_format", "ROW").upper() == "STATEMENT":
        raise StoreUnavailable("binlog_format of the database server is STATEMENT: set it to ROW (or MIXED)")


async def check_revision(driver: BoundedConnection) -> None:
    """Raises `StoreUnavailable` unless the tables are those of this program; `NotYet` where a migration makes them."""
    if not (await driver.run(TABLES))[0][0]:
        raise NotYet("the database has no tables yet: run `aldis migrate`")
    rows = await driver.run(FOUND)
    found = rows[0][0] if rows else None
    if found == REVISION:
        return
    if found is not None and found not in _older():
        raise StoreUnavailable(
            f"the database is at revision {found}, which this program (revision {REVISION}) does not know: "
            "it was made by a newer version, use that one"
        )
    raise NotYet(f"the database is at revision {found}, this program needs {REVISION}: run `aldis migrate`")


def _older() -> set[str]:
    # Alembic takes its time to load, and who is up to date need not know
    from aldis.bridge.migrate import known_revisions

    return known_revisions()
