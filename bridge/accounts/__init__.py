"""Accounts on SQL: users, login sessions, device tokens, relations, and the connector's view of them."""

from aldis.bridge.accounts.database import Database, open_engine
from aldis.bridge.accounts.directory import AccountsDirectory
from aldis.bridge.accounts.repository import Accounts

__all__ = ["Accounts", "AccountsDirectory", "Database", "open_engine"]
