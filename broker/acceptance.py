"""Where messages are accepted into a journal before the database has them: the two halves of what the group commit
tells in one step, and what of the past is to be found where.

The way of one message: `Inboxes.submit` -> journal writer -> `accepted` (receipt `sent`, acknowledgement); then, on
whichever node stores its shard: storer -> `Inboxes.committed`, which finds no publication to answer, and feeds the
devices here and on other nodes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aldis.broker.cluster_ports import Told
from aldis.broker.core.envelope import render_sent
from aldis.broker.journal_ports import Answer, Journal, JournalUnavailable
from aldis.broker.ports import AccessRevoked, Announcement, NewMessage, Stored, StoreUnavailable

if TYPE_CHECKING:
    from aldis.broker.inboxes import Inboxes
    from aldis.broker.node import Node
    from aldis.broker.pipeline import Publication

logger = logging.getLogger(__name__)

JOURNAL_UNAVAILABLE = "the journal takes no messages"
JOURNAL_FULL = "the journal is full"
"""As `/readyz` has them."""


def tell_sender(node: Node, told: Told) -> None:
    """A second `sent` receipt for one device, if it is connected to this node; who remembers ids is told as well."""
    for hook in node.on_corrected:
        hook(told)
    subscriber = node.sessions.subscribers.get((told.user, told.device))
    if subscriber is not None and subscriber.connection is not None:
        subscriber.connection.receipt(told.peer, render_sent(told.id, told.seq, told.mid, told.ts))


class Acceptance:
    """The journal as the connector sees it."""

    def __init__(self, inboxes: Inboxes, journal: Journal) -> None:
        self._inboxes = inboxes
        self._node = inboxes.node
        self._journal = journal

    def accepted(self, messages: Sequence[NewMessage], answers: Sequence[Answer]) -> None:
        """The journal has these: their senders are answered. As a rule they are in no inbox yet; but a storer may have
        been faster than the answer, and what was told of them meanwhile has waited."""
        for message, answer in zip(messages, answers, strict=True):
            publication: Publication = message.tag  # type: ignore[assignment]
            publication.committed(answer.mid, answer.created)
        self._inboxes.receipts.answered()

    def refused(self, _: Exception) -> None:
        self._node.not_ready_reasons.add(JOURNAL_UNAVAILABLE)

    def recovered(self) -> None:
        self._node.not_ready_reasons.discard(JOURNAL_UNAVAILABLE)

    def full(self, is_full: bool) -> None:
        (self._node.not_ready_reasons.add if is_full else self._node.not_ready_reasons.discard)(JOURNAL_FULL)

    async def last_seq(self, user: str, device: str, recipient: str) -> int:
        """The highest `seq` accepted from this device to this recipient, stored or not. While the database is away, as
        far as the journal remembers. Raises `StoreUnavailable` where that is nothing, or the journal is away."""
        remembered = await self._remembered(user, device, recipient)
        try:
            return max(remembered, await self._inboxes.store.last_seq(user, device, recipient))
        except StoreUnavailable:
            if not remembered:
                raise
            return remembered

    async def _remembered(self, user: str, device: str, recipient: str) -> int:
        try:
            return await self._journal.last_seq(user, device, recipient)
        except JournalUnavailable as error:
            # what is accepted and not stored counts: without the journal nobody knows the number
            raise StoreUnavailable(str(error)) from error

    async def find(self, user: str, device: str, id: str) -> Answer | Stored | None:
        """The first result of an id. Raises `StoreUnavailable`."""
        try:
            found = await self._journal.find(user, device, id)
        except JournalUnavailable as error:
            raise StoreUnavailable(str(error)) from error
        return found or await self._inboxes.store.find(user, device, id)

    def corrected(self, message: NewMessage, stored: Stored) -> None:
        """The store knows an older result than the message's sender was told: it is told that one."""
        about = (message.sender, message.device, message.recipient)
        told = Told(*about, message.id, message.seq, stored.mid, stored.created)
        tell_sender(self._node, told)
        if self._node.elsewhere is not None:
            self._node.elsewhere.send(message.sender, told)

    def on_announcement(self, announcement: Announcement) -> None:
        """A removed device takes its counters along: whoever takes its name begins at 1."""
        if isinstance(announcement, AccessRevoked) and announcement.device is not None:
            self._node.spawn(self._forget(announcement.user, announcement.device), "forget a device's counters")

    async def _forget(self, user: str, device: str) -> None:
        try:
            await self._journal.forget_device(user, device)
        except JournalUnavailable as error:
            logger.warning("counters of a removed device stay in the journal until they expire: %s", error)
