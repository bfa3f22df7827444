"""The accounts' repository, put together."""

from __future__ import annotations

from aldis.bridge.accounts.administration import Administration
from aldis.bridge.accounts.announcement_log import AnnouncementLog
from aldis.bridge.accounts.broadcasts import Broadcasts
from aldis.bridge.accounts.chores import Chores
from aldis.bridge.accounts.database import Database, DatabaseState
from aldis.bridge.accounts.device_names import DeviceNames
from aldis.bridge.accounts.directory import AccountsDirectory
from aldis.bridge.accounts.file_cleaning import FileCleaning
from aldis.bridge.accounts.files import Files
from aldis.bridge.accounts.history import History
from aldis.bridge.accounts.history_filling import HistoryFilling
from aldis.bridge.accounts.key_versions import KeyVersions
from aldis.bridge.accounts.master_keys import MasterKeys
from aldis.bridge.accounts.relation_keys import KeyWrap
from aldis.bridge.accounts.relation_lists import RelationLists
from aldis.bridge.accounts.relations import Relations
from aldis.bridge.accounts.repeats import Repeats
from aldis.bridge.accounts.retention import Retention
from aldis.bridge.accounts.sealed_keys import SealedKeys
from aldis.bridge.accounts.sessions import Sessions
from aldis.bridge.accounts.shared_keys import SharedKeys
from aldis.bridge.accounts.tokens import DeviceTokens
from aldis.bridge.accounts.users import Users


class Accounts:
    """Everything the accounts side keeps: users, sessions, device tokens, relations, the connector's directory; and
    what it does behind the messages' back: the history, and what is let go of.

    `master_key` wraps the relation keys; of several the database says which. The database is the caller's until
    `close`.
    """

    def __init__(
        self, database: Database, *, master_key: bytes | MasterKeys, max_friends: int, max_requests: int
    ) -> None:
        masters = master_key if isinstance(master_key, MasterKeys) else MasterKeys([master_key])
        keys = KeyVersions(database, KeyWrap(masters))
        self._database = database
        self._versions = keys
        self.users = Users(database)
        log = AnnouncementLog(database)
        self.sessions = Sessions(database, log)
        self.tokens = DeviceTokens(database, log)
        self.relations = Relations(database, log, keys, max_friends=max_friends, max_requests=max_requests)
        self.lists = RelationLists(database, keys)
        self.keys = SharedKeys(database, keys)
        self.sealed = SealedKeys(database, keys)
        self.directory = AccountsDirectory(database)
        self.administration = Administration(database, log)
        self.device_names = DeviceNames(database)
        self.repeats = Repeats(database)
        self.broadcasts = Broadcasts(database)
        self.filling = HistoryFilling(database)
        self.history = History(database, self.filling)
        self.retention = Retention(database)
        self.chores = Chores(database)
        self.files = Files(database)
        self.file_cleaning = FileCleaning(database)

    def database_state(self) -> DatabaseState:
        """How the database is, as far as our own calls have shown."""
        return self._database.state()

    async def ready(self) -> None:
        """Raises `StoreUnavailable` unless the database answers."""
        await self._database.ready()

    async def check_master_keys(self) -> None:
        """Raises `StoreUnavailable` unless the relation keys here can be opened. Changes nothing."""
        await self._versions.check_masters()

    async def close(self) -> None:
        """Writes what is still to be noted and closes the connections."""
        await self.directory.settle()
        await self._database.close()
