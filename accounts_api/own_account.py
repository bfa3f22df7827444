"""What users do to their own account as a whole: password, every login, the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from aldis.accounts_api.announcing import Announcer
from aldis.accounts_api.broadcasting import BATCH
from aldis.accounts_api.logins import Logins
from aldis.accounts_api.notices import posting
from aldis.accounts_api.passwords import Passwords
from aldis.bridge.accounts import Accounts
from aldis.broker.ports import Postbox, RelationChanged, Store, StoreUnavailable

logger = logging.getLogger(__name__)


class OwnAccount:
    """On behalf of `user`, who has been authenticated by a token. What cannot be taken back asks for the password, too,
    under the limits of a login: a token that was stolen must not be enough."""

    def __init__(
        self,
        accounts: Accounts,
        logins: Logins,
        passwords: Passwords,
        store: Store,
        announcer: Announcer,
        postbox: Postbox,
        now: Callable[[], int],
    ) -> None:
        self._accounts = accounts
        self._logins = logins
        self._passwords = passwords
        self._store = store
        self._announcer = announcer
        self._postbox = postbox
        self._now = now

    async def change_password(self, user: str, session: str, *, old: str, new: str, address: str) -> None:
        """Every other login of the user ends; device tokens stay. Raises `WrongLogin`, `AccountsBusy`."""
        current = await self._logins.prove(user, old, address=address)
        hashed = await self._passwords.hash(new)
        ended = await self._accounts.administration.change_password(
            user, old=current, new=hashed, keep=session, now=self._now()
        )
        self._announcer.announce(*ended)
        await self._announcer.settled()
        logger.info("password changed", extra={"user": user, "session": session})

    async def log_out_everywhere(self, user: str) -> None:
        """Every login of the user ends, this one too."""
        self._announcer.announce(*await self._accounts.administration.end_logins(user, now=self._now()))
        await self._announcer.settled()
        logger.info("logout everywhere", extra={"user": user})

    async def delete(self, user: str, *, password: str, address: str) -> None:
        """The account is gone for good; what it has written stays with those it was written to, and who could write to
        it is told. Raises `WrongLogin`, `AccountsBusy`."""
        current = await self._logins.prove(user, password, address=address)
        logged = await self._accounts.administration.delete(user, old=current, now=self._now())
        try:
            for device in await self._store.devices(user):
                await self._store.forget_device(user, device.device)
        except StoreUnavailable:
            # cursors of nobody: they hold nothing, and nobody can come back to them
            logger.warning("devices of a deleted user could not be forgotten", extra={"user": user})
        finally:
            self._announcer.announce(*logged)
        await self._announcer.settled()
        logger.info("account deleted", extra={"user": user})
        changed = [one.announcement for one in logged if isinstance(one.announcement, RelationChanged)]
        await self._tell(user, [one.user2 if one.user1 == user else one.user1 for one in changed])

    async def _tell(self, user: str, peers: Sequence[str]) -> None:
        """A notice, not the truth: who does not get it sees it in the list of relations."""
        content = msgspec.json.encode({"type": "account_deleted", "user_id": user})
        async with posting(user, "account_deleted"):
            for start in range(0, len(peers), BATCH):
                await self._postbox.post_to(peers[start : start + BATCH], content, id=f"account_deleted:{user}")
