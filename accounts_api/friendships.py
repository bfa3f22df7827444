"""Friendships, as far as others are told of them: the change is committed first, then announced, then posted.

What ends the right to write is announced until every connector has taken it, before the call returns.

The post is a notice, not the truth: if the store refuses it, the change stands all the same, a warning is logged, and
the other side sees it the next time it asks for its requests or relations.
"""

from __future__ import annotations

from collections.abc import Callable

from aldis.accounts_api.announcing import Announcer
from aldis.accounts_api.attempts import Attempts
from aldis.accounts_api.notices import post_notice
from aldis.bridge.accounts import Accounts
from aldis.bridge.accounts.pairs import Pair
from aldis.bridge.accounts.relations import Change
from aldis.broker.ports import Postbox
from aldis.config.settings import Accounts as AccountsSettings


class Friendships:
    """Changes relations on behalf of `me`, who has been authenticated. The errors are those of `Relations`."""

    def __init__(
        self,
        accounts: Accounts,
        announcer: Announcer,
        postbox: Postbox,
        settings: AccountsSettings,
        now: Callable[[], int],
    ) -> None:
        self._relations = accounts.relations
        self._announcer = announcer
        self._postbox = postbox
        self._now = now
        self._asking = Attempts(burst=settings.request_burst, per_minute=settings.request_per_minute)

    async def ask(self, me: str, peer: str) -> Pair:
        """What stands between the two after the request; see `Relations.ask`. Raises `TooManyAttempts` too: by asking,
        blocking and unblocking in a circle one could else fill a stranger's inbox."""
        self._asking.take(me, self._now())
        change = await self._relations.ask(me, peer, now=self._now())
        # A peer who has blocked me hears nothing.
        if change.effective and not change.after.blocked_by_peer:
            await self._tell(change, _accepted(me) if change.after.friends else _asked(me))
        return change.after

    async def accept(self, me: str, peer: str) -> None:
        change = await self._relations.accept(me, peer, now=self._now())
        if change.effective:
            await self._tell(change, None if change.after.blocked_by_peer else _accepted(me))

    async def decline(self, me: str, peer: str) -> None:
        await self._tell(await self._relations.decline(me, peer, now=self._now()), None)

    async def unfriend(self, me: str, peer: str) -> None:
        change = await self._relations.unfriend(me, peer, now=self._now())
        await self._tell(change, None if change.after.blocked_by_peer else {"type": "friend_removed", "user_id": me})

    async def block(self, me: str, peer: str) -> None:
        await self._tell(await self._relations.block(me, peer, now=self._now()), None)

    async def unblock(self, me: str, peer: str) -> None:
        await self._tell(await self._relations.unblock(me, peer, now=self._now()), None)

    async def _tell(self, change: Change, notice: dict[str, str] | None) -> None:
        """Announces the change to the connectors, and the notice to the peer."""
        if change.logged is not None:
            self._announcer.announce(change.logged)
        if not change.after.open and (change.logged is not None or change.after.blocked_by_me):
            # A block that is repeated waits, too: the first call may have been cut off before it was taken everywhere.
            await self._announcer.settled()
        if notice is not None:
            await post_notice(self._postbox, change.after.peer, notice)


def _asked(me: str) -> dict[str, str]:
    return {"type": "friend_request", "from": me}


def _accepted(me: str) -> dict[str, str]:
    return {"type": "friend_accepted", "user_id": me}
