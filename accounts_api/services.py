"""What the REST API works with, handed in by the composition root. Nothing here knows HTTP or Litestar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aldis.accounts_api.addresses import client_address
from aldis.accounts_api.announcing import Announcer
from aldis.accounts_api.attempts import Attempts
from aldis.accounts_api.broadcasting import Broadcasting
from aldis.accounts_api.file_housekeeping import FileHousekeeping
from aldis.accounts_api.filing import Filing
from aldis.accounts_api.friendships import Friendships
from aldis.accounts_api.housekeeping import Housekeeping
from aldis.accounts_api.key_exchange import KeyExchange
from aldis.accounts_api.logins import Logins
from aldis.accounts_api.operations import Operations
from aldis.accounts_api.own_account import OwnAccount
from aldis.accounts_api.passwords import Passwords
from aldis.accounts_api.repeating import Repeating
from aldis.bridge.accounts import Accounts
from aldis.bridge.credentials import AccessTokens, RefreshTokens
from aldis.broker.ports import Bus, Postbox, Store
from aldis.config.history import History as HistorySettings
from aldis.config.settings import Accounts as AccountsSettings

if TYPE_CHECKING:
    from litestar import Request


@dataclass(frozen=True, slots=True)
class Services:
    """One server's accounts side. `now` gives Unix milliseconds."""

    accounts: Accounts
    passwords: Passwords
    access_tokens: AccessTokens
    logins: Logins
    friendships: Friendships
    keys: KeyExchange
    own_account: OwnAccount
    broadcasting: Broadcasting
    repeating: Repeating
    housekeeping: Housekeeping
    calls: Attempts
    store: Store
    announcer: Announcer
    settings: AccountsSettings
    history: HistorySettings
    now: Callable[[], int]
    operations: Operations = field(default_factory=Operations)
    filing: Filing | None = None
    file_housekeeping: FileHousekeeping | None = None

    def address_of(self, request: Request[Any, Any, Any]) -> str:
        """From where the request comes, as far as we may believe it."""
        peer = request.client.host if request.client is not None else "unknown"
        return client_address(peer, request.headers.getall("x-forwarded-for", []), self.settings.trusted_proxies)


def assemble(  # noqa: PLR0913 - all that a server has, each by its name
    *,
    settings: AccountsSettings,
    accounts: Accounts,
    signing_key: bytes,
    store: Store,
    bus: Bus,
    postbox: Postbox,
    now: Callable[[], int],
    operations: Operations | None = None,
    history: HistorySettings | None = None,
    filing: Filing | None = None,
) -> Services:
    """The services over these back ends; without `filing` no files are taken. Whoever opened them closes them."""
    passwords = Passwords(concurrency=settings.hashing_concurrency, queue=settings.hashing_queue)
    access_tokens = AccessTokens(signing_key)
    announcer = Announcer(bus)
    repeating = Repeating(accounts.repeats, signing_key, int(settings.repeat_lifetime * 1000), now)
    logins = Logins(accounts, passwords, access_tokens, RefreshTokens(signing_key), announcer, repeating, settings, now)
    history = history or HistorySettings()
    broadcasting = Broadcasting(accounts.broadcasts, postbox, now)

    async def look() -> None:
        await accounts.ready()
        # No user has an empty name, so the answer is 0, but the store had to look.
        await store.head("")

    return Services(
        accounts=accounts,
        passwords=passwords,
        access_tokens=access_tokens,
        logins=logins,
        friendships=Friendships(accounts, announcer, postbox, settings, now),
        keys=KeyExchange(accounts, postbox, settings.keys, now),
        own_account=OwnAccount(accounts, logins, passwords, store, announcer, postbox, now),
        broadcasting=broadcasting,
        repeating=repeating,
        housekeeping=Housekeeping(accounts, broadcasting, history, now),
        calls=Attempts(burst=settings.call_burst, per_minute=settings.call_per_minute),
        store=store,
        announcer=announcer,
        settings=settings,
        history=history,
        now=now,
        operations=replace(operations or Operations(), look=look),
        filing=filing,
        file_housekeeping=None if filing is None else FileHousekeeping(accounts, filing, now),
    )
