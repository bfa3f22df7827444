"""What of a batch is stored already: by the sender's `id`, and by the mid that the caller gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aldis.bridge.given_mids import Placed, given_mids
from aldis.bridge.mysql_batch import PLACED, REPEATS
from aldis.bridge.mysql_literals import listed, number, portions, row, text
from aldis.bridge.mysql_numbers import Key
from aldis.bridge.mysql_trips import Rows, Trips
from aldis.broker.ports import NewMessage, Stored


class Repeats(NamedTuple):
    """Messages of earlier batches."""

    by_id: dict[Key, Stored]
    by_mid: dict[int, Placed]


async def look_for_repeats(trips: Trips, messages: list[NewMessage]) -> Repeats:
    """Goes now, and takes no locks."""
    keys = {(message.sender, message.device, message.id): None for message in messages if message.id is not None}
    found: dict[Key, Stored] = {}

    def take(rows: Rows) -> None:
        for sender, device, id, mid, n, created, sync_n in rows:
            key = (str(sender, "utf-8"), str(device, "utf-8"), str(id, "utf-8"))
            found[key] = Stored(mid, n, created, sync_n, True)

    for portion in portions(list(keys)):
        wanted = listed(row(text(sender), text(device), text(id)) for sender, device, id in portion)
        trips.add(REPEATS % wanted, take)
    return Repeats(found, await stored_under(trips, given_mids(messages)))


async def stored_under(trips: Trips, mids: Sequence[int]) -> dict[int, Placed]:
    """The messages that have these mids. Goes now."""
    found: dict[int, Placed] = {}

    def take(rows: Rows) -> None:
        for mid, sender, device, recipient, n, created, sync_n in rows:
            names = (str(sender, "utf-8"), str(device, "utf-8"), str(recipient, "utf-8"))
            found[mid] = Placed(*names, Stored(mid, n, created, sync_n, True))

    for portion in portions(mids):
        trips.add(PLACED % listed(map(number, portion)), take)
    await trips.go()
    return found
