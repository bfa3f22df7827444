"""Who is who: registration, login, refresh, logout."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec
import uuid_utils

from aldis.accounts_api.announcing import Announcer
from aldis.accounts_api.attempts import Attempts, network_of
from aldis.accounts_api.passwords import Passwords
from aldis.accounts_api.repeating import Repeating
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


class Opened(msgspec.Struct, frozen=True):
    """A session that a login has opened, with its first refresh token."""

    session_id: str
    refresh_token: str


class Logins:
    """Proves users by password and gives out token pairs. Guessing is limited per user and per address."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        access_tokens: AccessTokens,
        refresh_tokens: RefreshTokens,
        announcer: Announcer,
        repeating: Repeating,
        settings: AccountsSettings,
        now: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._access_tokens = access_tokens
        self._refresh_tokens = refresh_tokens
        self._announcer = announcer
        self._repeating = repeating
        self._settings = settings
        self._now = now
        self._by_user = Attempts(burst=settings.login_burst, per_minute=settings.login_per_minute)
        self._by_address = Attempts(burst=settings.address_burst, per_minute=settings.address_per_minute)
        self._registrations = Attempts(burst=settings.register_burst, per_minute=settings.register_per_minute)

    def admit_registration(self, address: str) -> None:
        """Before anything is done for somebody who has proved nothing: not even a key is noted. Raises
        `TooManyAttempts`."""
        self._registrations.take(network_of(address), self._now())

    async def register(self, user: str, password: str, name: str) -> int:
        """Makes the account; when, in Unix milliseconds. Raises `UserTaken`, `AccountsBusy`."""
        now = self._now()
        # A taken name is told before the hash is paid for; `add` decides in case of a race.
        if await self._accounts.users.find(user) is not None:
            raise UserTaken(f"the user id {user} is taken")
        password_hash = await self._passwords.hash(password)
        await self._accounts.users.add(user, name=name, password_hash=password_hash, now=now)
        logger.info("user registered", extra={"user": user})
        return now

    async def log_in(self, user: str, password: str, device: str, *, address: str, key: str | None = None) -> TokenPair:
        """Opens a session for the device, ending the one it had. Raises `WrongLogin`, the same and after the same
        time whether the user is unknown, disabled or has another password; and `AccountsBusy`.

        With the `key` of an earlier request for this device it is the session of that one, for as long as answers are
        repeated and its refresh token has not been used. The password is proved first, each time: who knows a key must
        not learn by it whether a password is right. Raises `KeyReused`, `StillRunning` for keys."""
        await self.prove(user, password, address=address)
        opened = await self._repeating.once(
            user,
            "POST /v1/login",
            key,
            device,
            lambda: self._open(user, device),
            Opened,
            lifetime=int(self._settings.login_repeat_lifetime * 1000),
            still=self._untouched,
        )
        return self._pair(user, device, opened.session_id, opened.refresh_token)

    async def _open(self, user: str, device: str) -> Opened:
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
        return Opened(session, refresh_token)

    async def _untouched(self, opened: Opened) -> bool:
        token = hashed(opened.refresh_token)
        return await self._accounts.sessions.untouched(opened.session_id, refresh_hash=token, now=self._now())

    async def refresh(self, token: str, key: str | None = None) -> TokenPair:
        """A new pair for an old refresh token, which is spent by this.

        Using a token a second time revokes the session and disconnects its device (`RefreshReused`): the thief and
        the owner cannot be told apart. Not so the same request with the same `key`, for as long as logins are repeated
        and the new refresh token has not been used: that is a client which has lost the answer, and gets the same
        refresh token again. Raises `MalformedCredential`, `SessionEnded`.
        """
        session = self._refresh_tokens.session_of(token)
        now = self._now()
        fresh = self._refresh_tokens.issue(session) if key is None else self._refresh_tokens.following(token, key)
        try:
            entry = await self._accounts.sessions.rotate(
                session,
                old=hashed(token),
                new=hashed(fresh),
                expires=now + int(self._settings.refresh_token_lifetime * 1000),
                now=now,
                repeats_since=now - int(self._settings.login_repeat_lifetime * 1000),
            )
        except RefreshReused as reuse:
            logger.warning("refresh token used twice", extra={"user": reuse.user, "session": reuse.session})
            self._announcer.announce(reuse.logged)
            raise
        return self._pair(entry.user_id, entry.device_id, session, fresh)

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

    def _pair(self, user: str, device: str, session: str, refresh_token: str) -> TokenPair:
        lifetime = self._settings.access_token_lifetime
        access_token = self._access_tokens.issue(
            user=user, device=device, session=session, now_ms=self._now(), lifetime=lifetime
        )
        return TokenPair(access_token=access_token, refresh_token=refresh_token, expires_in=int(lifetime))
