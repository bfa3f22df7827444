"""The accounts' repository, put together."""

from __future__ import annotations

from aldis.bridge.accounts.administration import Administration
from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.broadcasts import Broadcasts
from aldis.bridge.accounts.chores import Chores
from aldis.bridge.accounts.database import Database
from aldis.bridge.accounts.device_names import DeviceNames
from aldis.bridge.accounts.directory import AccountsDirectory
from aldis.bridge.accounts.history import History
from aldis.bridge.accounts.history_filling import HistoryFilling
from aldis.bridge.accounts.relation_keys import KeyWrap
from aldis.bridge.accounts.relation_lists import RelationLists
from aldis.bridge.accounts.relations import Relations
from aldis.bridge.accounts.repeats import Repeats
from aldis.bridge.accounts.retention import Retention
from aldis.bridge.accounts.sessions import Sessions
from aldis.bridge.accounts.tokens import DeviceTokens
from aldis.bridge.accounts.users import Users


class Accounts:
    """Everything the accounts side keeps: users, sessions, device tokens, relations, the connector's directory; and
    what it does behind the messages' back: the history, and what is let go of.

    `master_key` wraps the relation keys. The database is the caller's until `close`.
    """

    def __init__(self, database: Database, *, master_key: bytes, max_friends: int, max_requests: int) -> None:
        keys = KeyWrap(master_key)
        self._database = database
        self.users = Users(database)
        log = AnnouncementLog(database)
        self.sessions = Sessions(database, log)
        self.tokens = DeviceTokens(database, log)
        self.relations = Relations(database, log, keys, max_friends=max_friends, max_requests=max_requests)
        self.lists = RelationLists(database, keys)
        self.directory = AccountsDirectory(database)
        self.administration = Administration(database, log)
        self.device_names = DeviceNames(database)
        self.repeats = Repeats(database)
        self.broadcasts = Broadcasts(database)
        self.filling = HistoryFilling(database)
        self.history = History(database, self.filling)
        self.retention = Retention(database)
        self.chores = Chores(database)

    async def ready(self) -> None:
        """Raises `StoreUnavailable` unless the database answers."""
        await self._database.ready()

    async def close(self) -> None:
        """Writes what is still to be noted and closes the connections."""
        await self.directory.settle()
        await self._database.close()
