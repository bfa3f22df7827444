"""The way out of this node: what concerns users who have devices on other nodes is sent there, and only there.

    committed items     Inboxes.committed -> Elsewhere.item … -> Elsewhere.send_items     one WakeUp per user and batch
    receipts, typing, presence, `devices/…`                   -> Elsewhere.pass_on        Passed

Nothing here is the only copy: what is lost on the way is found in the store, or was never promised."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aldis.broker.cluster_ports import AnyParcel, Inlined, Passed, StatusUnavailable, Transfer, UserStatus, WakeUp
from aldis.broker.core.packets import Message
from aldis.broker.core.whereabouts import NOWHERE, Whereabouts

logger = logging.getLogger(__name__)

CHAT, SYSTEM, SYNC = 1, 2, 3
"""Kinds of an `Inlined` item."""

RECENT = 30.0
"""Seconds of a period in which it is remembered what was committed (`Whereabouts.next_period`): no parcel is longer on
its way."""

_MAX_WAITING = 10_000
"""Parcels that wait until it is known where they go; more go to every node."""


class Elsewhere:
    """The other nodes, as the parts of this one see them. Plain calls in the event loop, which never wait."""

    def __init__(
        self,
        transfer: Transfer,
        status: UserStatus,
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        *,
        max_known_users: int,
    ) -> None:
        self.whereabouts = Whereabouts(transfer.node, max_known_users)
        self.unaddressed = 0
        """Parcels that went to every node, because nobody could say where the user is."""
        self._transfer = transfer
        self._status = status
        self._spawn = spawn
        self._items: dict[str, list[Inlined]] = {}
        self._unknown: dict[str, list[AnyParcel]] = {}
        self._waiting = 0
        self._asking = False

    def concerns(self, user: str, n: int) -> bool:
        """Item `n` of this user was committed: is it wanted on other nodes, as far as is known?"""
        self.whereabouts.committed(user, n)
        return self.whereabouts.known.get(user) is not NOWHERE

    def item(self, user: str, message: Message) -> None:
        """A committed item for the user's devices elsewhere; `send_items` sends it."""
        kind = CHAT if message.peer else SYNC if message.origin else SYSTEM
        inlined = Inlined(message.n, message.mid, kind, message.peer, message.origin, message.payload)
        items = self._items.get(user)
        if items is None:
            self._items[user] = [inlined]
        else:
            items.append(inlined)

    def send_items(self) -> None:
        """The batch is through."""
        if not self._items:
            return
        all_items, self._items = self._items, {}
        for user, items in all_items.items():
            self.send(user, WakeUp(user, items[-1].n, tuple(items)))

    def pass_on(self, user: str, message: Message, *, retain: bool = False) -> None:
        """A message to whoever has subscribed to it on the nodes of this user."""
        if self.whereabouts.known.get(user) is not NOWHERE:
            self.send(user, Passed(message.topic, message.payload, message.qos, retain))

    def send(self, user: str, parcel: AnyParcel) -> None:
        """To every other node that holds a device of the user; where that is not known it is asked first."""
        nodes = self.whereabouts.known.get(user)
        if nodes is not None and user not in self._unknown:  # never past what waits for the answer
            for node in nodes:
                self._transfer.send(node, parcel)
            return
        if self._waiting >= _MAX_WAITING:
            self._send_everywhere([parcel])
            return
        self._waiting += 1
        self._unknown.setdefault(user, []).append(parcel)
        if not self._asking:
            self._asking = True
            self._spawn(self._ask(), "where users are")

    # What other nodes say of themselves

    def attached(self, node: str, users: Sequence[str]) -> None:
        """`node` now holds a device of each of these users. It is told of what was committed for them lately: perhaps
        before we knew of it, and after that node had looked."""
        self.whereabouts.attached(node, users)
        for user in users:
            if newest := self.whereabouts.recent(user):
                self._transfer.send(node, WakeUp(user, newest))

    async def _ask(self) -> None:
        """Asks for all who are unknown now, then for those who have come meanwhile."""
        try:
            while self._unknown:
                question = self.whereabouts.ask(self._unknown)
                try:
                    found = self.whereabouts.answered(question, await self._status.connectors(question.users))
                except StatusUnavailable:
                    self.whereabouts.unanswered(question)
                    found = {}
                for user in question.users:
                    parcels = self._unknown.pop(user)
                    self._waiting -= len(parcels)
                    if user not in found:
                        self._send_everywhere(parcels)
                    for node in found.get(user, NOWHERE):
                        for parcel in parcels:
                            self._transfer.send(node, parcel)
        finally:
            self._asking = False

    def _send_everywhere(self, parcels: list[AnyParcel]) -> None:
        """Not dropped: nobody would learn that a receipt is missing, and read it from the store."""
        self.unaddressed += len(parcels)
        for parcel in parcels:
            self._transfer.tell(parcel)
