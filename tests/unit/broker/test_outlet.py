"""The accounts side's way to the nodes: it holds no devices, and remembers no more than a node does."""

from __future__ import annotations

import asyncio

from aldis.bridge.memory_status import MemoryUserStatus, StatusBoard
from aldis.bridge.memory_transfer import MemoryTransfer, Wire
from aldis.broker.cluster import Links
from aldis.broker.compose_bus import ToNodes
from aldis.broker.elsewhere import RECENT
from aldis.broker.ports import Batch, Committed, Kind, NewMessage, Stored
from tests.unit.broker.chat import AMONG_OTHERS, Friends


async def test_what_was_committed_is_forgotten_when_no_parcel_about_it_can_be_on_its_way() -> None:
    wire, name = Wire(), "accounts.a"
    outlet = ToNodes(Links(MemoryTransfer(name, wire), MemoryUserStatus(name, StatusBoard())), Friends(), AMONG_OTHERS)
    await outlet.open()
    try:
        message = NewMessage("$server", "", "ann", b"{}", 1, Kind.SYSTEM)
        outlet.committed(Batch([message]), Committed([Stored(1, 7, 1)], [], []))
        recent = outlet._elsewhere.whereabouts.recent
        assert recent("ann") == 7
        await asyncio.sleep(RECENT - 1)
        assert recent("ann") == 7, "who attaches now may have looked before"
        await asyncio.sleep(RECENT + 1)
        assert recent("ann") == 0
    finally:
        await outlet.close()
