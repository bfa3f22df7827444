"""A storer that is killed (SIGKILL, by itself) after its first COMMIT, before anything is removed from the journal.

python -m tests.integration.dying_storer MYSQL_URL PASSWORD_FILE REDIS_URL PASSWORD_FILE SHARDS
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_server import MySqlServer
from aldis.bridge.redis_journal import RedisJournal
from aldis.bridge.redis_journal_durability import Durability
from aldis.bridge.redis_server import RedisServer
from aldis.bridge.storer import Storer
from aldis.broker.journal_ports import Entry
from aldis.broker.ports import Batch, Committed


class Dying(RedisJournal):
    async def stored(self, last: Mapping[int, Entry]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def tell(batch: Batch, committed: Committed) -> None:
    print(len(batch.messages), sum(one.repeated for one in committed.stored), flush=True)


async def main(mysql: str, mysql_password: str, redis: str, redis_password: str, shards: str) -> None:
    store = MySqlStore(MySqlServer(mysql, password=Path(mysql_password).read_text().strip()))
    await store.open()
    server = RedisServer(redis, password=Path(redis_password).read_text().strip())
    journal = Dying(server, Durability(), JournalBounds(shards=int(shards), lease=1_000))
    await journal.open(newest=await store.highest_mid())
    Storer(
        journal, store, accepting=False, lease=1.0, on_stored=tell, on_corrected=lambda message, stored: None
    ).start()
    await asyncio.sleep(30)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
