"""Who is who: registration, login, refresh, logout."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import uuid_utils

from aldis.accounts_api.announcing import Announcer
from aldis.accounts_api.attempts import Attempts, network_of
from aldis.accounts_api.passwords import Passwords
from aldis.bridge.accounts import Accounts
from aldis.bridge.accounts.errors import HashingBusy, RefreshReused, UserTaken, WrongLogin
from aldis.bridge.accounts.records import SessionEntry
from aldis.bridge.credentials import AccessTokens, RefreshTokens, hashed
from aldis.broker.ports import StoreUnavailable
from aldis.config.settings import Accounts as AccountsSettings

logger = logging.getLogger(__name__)


class TokenPair(msgspec.Struct, frozen=True):
    """What a login gives: `expires_in` is the access token's life in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


class Logins:
    """Proves users by password and gives out token pairs. Guessing is limited per user and per address."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        announcer: Announcer,
        settings: AccountsSettings,
        now: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._announcer = announcer
        self._settings = settings
        self._now = now
        self._by_user = Attempts(burst=settings.login_burst, per_minute=settings.login_per_minute)
        self._by_address = Attempts(burst=settings.address_burst, per_minute=settings.address_per_minute)
        self._registrations = Attempts(burst=settings.register_burst, per_minute=settings.register_per_minute)

    async def register(self, user: str, password: str, name: str, *, address: str) -> int:
        """Makes the account; when, in Unix milliseconds. Raises `UserTaken`, `AccountsBusy`."""
        now = self._now()
        self._registrations.take(network_of(address), now)
        # A taken name is told before the hash is paid for; `add` decides in case of a race.
        if await self._accounts.users.find(user) is not None:
            raise UserTaken(f"the user id {user} is taken")
        password_hash = await self._passwords.hash(password)
        await self._accounts.users.add(user, name=name, password_hash=password_hash, now=now)
        logger.info("user registered", extra={"user": user})
        return now

    async def log_in(self, user: str, password: str, device: str, *, address: str) -> TokenPair:
        """Opens a session for the device, ending the one it had. Raises `WrongLogin`, the same and after the same
        time whether the user is unknown, disabled or has another password; and `AccountsBusy`."""
        await self.prove(user, password, address=address)
        now = self._now()
        session = str(uuid_utils.uuid7())
        refresh_token = self._refresh_tokens.issue(session)
        entry = SessionEntry(
            session_id=session,
            user_id=user,
            device_id=device,
            expires=now + int(self._settings.refresh_token_lifetime * 1000),
            created=now,
        )
        ended = await self._accounts.sessions.open(
            entry, refresh_hash=hashed(refresh_token), limit=self._settings.max_sessions_per_user
        )
        self._announcer.announce(*ended)
        logger.info("login", extra={"user": user, "device": device, "session": session})
        return self._pair(entry, refresh_token, now)

    async def refresh(self, token: str) -> TokenPair:
        """A new pair for an old refresh token, which is spent by this.

        Using a token a second time revokes the session and disconnects its device (`RefreshReused`): the thief and
        the owner cannot be told apart. That includes a client which lost the answer and asks again; it must log in.
        Raises `MalformedCredential`, `SessionEnded`.
        """
        session = self._refresh_tokens.session_of(token)
        now = self._now()
        fresh = self._refresh_tokens.issue(session)
        expires = now + int(self._settings.refresh_token_lifetime * 1000)
        try:
            entry = await self._accounts.sessions.rotate(
                session, old=hashed(token), new=hashed(fresh), expires=expires, now=now
            )
        except RefreshReused as reuse:
            logger.warning("refresh token used twice", extra={"user": reuse.user, "session": reuse.session})
            self._announcer.announce(reuse.logged)
            raise
        return self._pair(entry, fresh, now)

    async def log_out(self, user: str, session: str) -> None:
        """Ends the user's session and disconnects what was opened under it."""
        self._announcer.announce(await self._accounts.sessions.revoke(user, session, now=self._now()))
        await self._announcer.settled()
        logger.info("logout", extra={"user": user, "session": session})

    async def prove(self, user: str, password: str, *, address: str) -> str:
        """The stored hash that this password fits, of an active account. Raises `WrongLogin`, `AccountsBusy`."""
        address = network_of(address)
        now = self._now()
        self._by_address.take(address, now)
        self._by_user.take(user, now)
        try:
            account = await self._accounts.users.find(user)
            stored = account.password_hash if account is not None else None
            fits, renewed = await self._passwords.check(password, stored)
        except (HashingBusy, StoreUnavailable):
            # Nothing was tried, so nothing was learnt by it.
            self._give_back(user, address)
            raise
        if account is None or not fits or not account.active:
            logger.info("login refused", extra={"user": user, "address": address})
            raise WrongLogin("no such user, or not the password")
        self._give_back(user, address)
        if renewed is not None:
            await self._accounts.users.change_hash(user, old=account.password_hash, new=renewed)
            return renewed
        return account.password_hash

    def _give_back(self, user: str, address: str) -> None:
        now = self._now()
        self._by_user.give_back(user, now)
        self._by_address.give_back(address, now)

    def _pair(self, entry: SessionEntry, refresh_token: str, now: int) -> TokenPair:
        lifetime = self._settings.access_token_lifetime
        access_token = self._access_tokens.issue(
            user=entry.user_id, device=entry.device_id, session=entry.session_id, now_ms=now, lifetime=lifetime
        )
        return TokenPair(access_token=access_token, refresh_token=refresh_token, expires_in=int(lifetime))
