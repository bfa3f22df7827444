"""Receipts: how far others have come with what a user sent. State, not messages: cumulative, told live to whoever is
there, and told again from the store when a device subscribes (promise 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aldis.broker.connection import Connection
from aldis.broker.core.envelope import render_delivered, render_read
from aldis.broker.core.packets import Message
from aldis.broker.node import Node
from aldis.broker.pipeline import Publication
from aldis.broker.ports import Batch, Committed, Read, ReceiptState, Store, StoreUnavailable


class Receipts:
    """The `delivered` and `read` receipts of one node."""

    def __init__(self, node: Node, store: Store) -> None:
        self._node = node
        self._store = store
        self._readings: dict[str, list[set[tuple[str, str]]]] = {}
        self._told: dict[str, dict[tuple[str, str], int]] = {}
        """Peer who is here -> (reader, kind) -> how far it was told here. Commits of several nodes and what is read
        from the store come in any order, and a receipt never falls."""
        self._reads: dict[tuple[str, str], list[tuple[int, Publication]]] = {}
        self.committing: Callable[[str, str], bool] | None = None
        """Whether a message from one to the other is in a transaction or an append under way. Set on a node of a
        cluster: alone, it hears of no commit before its own answer."""
        self._early: dict[tuple[str, str, str], int] = {}
        self._later: set[Connection] = set()
        """Connections that have subscribed meanwhile, and were not told everything for the same reason."""
        self._behind: set[Connection] = set()
        """Connections that did not read while something was told (QoS 0 goes past them), or for which the store could
        not be read."""
        node.on_tick.append(self._catch_up)

    def awaits(self, read: Read, publication: Publication) -> None:
        """The publication is acknowledged when this, or further reading, is committed."""
        self._reads.setdefault((read.reader, read.peer), []).append((read.mid, publication))

    @property
    def unacknowledged(self) -> int:
        """Pairs with read receipts that wait for their commit."""
        return len(self._reads)

    def committed(self, batch: Batch, committed: Committed) -> None:
        """Tells the peers what has risen, and acknowledges the read receipts that are now durable."""
        delivered = {(d.reader, d.peer) for d in batch.delivered}
        read = {(r.reader, r.peer): r.mid for r in batch.reads}
        for state in committed.receipts:
            key = (state.reader, state.peer)
            if key in delivered:
                self._report(state, "delivered", state.delivered, render_delivered(state.delivered))
            if key in read:
                self._report(state, "read", state.read, render_read(state.read))
        for key, mid in read.items():
            waiting = self._reads.pop(key, [])
            later = [entry for entry in waiting if entry[0] > mid]
            if later:
                self._reads[key] = later
            for up_to, publication in waiting:
                if up_to <= mid:
                    publication.settle()

    def _report(self, state: ReceiptState, kind: str, up_to: int, payload: bytes) -> None:
        message = Message(f"inbox/{state.peer}/receipt/{state.reader}", payload)
        waits = self._must_wait(state.peer, state.reader, kind, up_to)
        if not waits and self._rises(state.peer, state.reader, kind, up_to):
            self.tell_here(message)
        if self._node.elsewhere is not None:
            self._node.elsewhere.pass_on(state.peer, message)

    def heard(self, peer: str, reader: str, payload: bytes) -> None:
        """Another node has told a receipt."""
        kind = "delivered" if b'"delivered"' in payload else "read"
        self._tell_if_risen(peer, reader, kind, int(payload[payload.rindex(b":") + 1 : -1]))

    def found(self, states: Iterable[ReceiptState]) -> None:
        """States that were read from the store because what was told live may have been lost: told again, here only."""
        for state in states:
            for kind, up_to in (("delivered", state.delivered), ("read", state.read)):
                if up_to:
                    self._tell_if_risen(state.peer, state.reader, kind, up_to)

    def _tell_if_risen(self, peer: str, reader: str, kind: str, up_to: int) -> None:
        if self._must_wait(peer, reader, kind, up_to):
            return
        if self._rises(peer, reader, kind, up_to):
            render = render_delivered if kind == "delivered" else render_read
            self.tell_here(Message(f"inbox/{peer}/receipt/{reader}", render(up_to)))

    def _must_wait(self, peer: str, reader: str, kind: str, up_to: int) -> bool:
        """A receipt may be about a message whose commit, or append, has taken effect, but whose answer has not come:
        `sent` comes first."""
        if self.committing is None or not self.committing(peer, reader):
            return False
        key = peer, reader, kind
        self._early[key] = max(up_to, self._early.get(key, 0))
        return True

    def answered(self) -> None:
        """The senders of the batch have their answers: what had to wait for that is told."""
        if self._early:
            early, self._early = self._early, {}
            for key, up_to in early.items():
                self._tell_if_risen(*key, up_to)
        if self._later:
            later, self._later = self._later, set()
            self._send_states_again(later)

    def tell_here(self, message: Message) -> None:
        """To whoever has subscribed on this node; to those who do not read now, when they do again."""
        for subscriber, _ in self._node.router.route(message.topic):
            connection = subscriber.connection
            if connection is not None and connection.congested:
                self._behind.add(connection)
        self._node.pass_on_here("receipt", message)

    def _catch_up(self, _now: float) -> None:
        readers = [one for one in self._behind if one.closed is not None or not one.congested]
        self._behind.difference_update(readers)
        self._send_states_again(readers)
        if self._later:
            self._later = {one for one in self._later if one.closed is None}

    def _send_states_again(self, connections: Iterable[Connection]) -> None:
        for connection in connections:
            if connection.closed is None and connection.session is not None:
                self._node.spawn(self.send_states(connection, connection.session.user), "tell receipts again")

    def _rises(self, peer: str, reader: str, kind: str, up_to: int) -> bool:
        """Whether this is more than was told here; now it is told."""
        told = self._told.get(peer)
        if told is None and self._node.decisions.present(peer):
            told = self._told[peer] = {}  # a session that is taken up again hears before its states were read
        if told is not None:
            if up_to <= told.get((reader, kind), 0):
                return False
            told[reader, kind] = up_to
        for newer in self._readings.get(peer, ()):
            newer.add((reader, kind))
        return True

    def forget_user(self, user: str) -> None:
        """The user's last connection is gone."""
        self._told.pop(user, None)

    async def send_states(self, connection: Connection, user: str) -> None:
        """How far everyone has come with what the user sent. What is reported live while this is being read is newer
        than what will be read, and a receipt never falls back. While the store is unavailable it is tried again with
        every tick. Where the store knows more than the user's other connections were told, they are told, too: what is
        told once to the user is not told again."""
        if connection.closed is not None:
            return  # nobody would forget what is noted here for its user
        newer: set[tuple[str, str]] = set()
        others = user in self._told
        told = self._told.setdefault(user, {})
        self._readings.setdefault(user, []).append(newer)
        try:
            states = await self._read(connection, user)
        finally:
            # by identity: two that have heard nothing yet are equal
            self._readings[user] = [reading for reading in self._readings[user] if reading is not newer]
            if not self._readings[user]:
                del self._readings[user]
        if self._told.get(user) is not told:
            return  # the user was away meanwhile, and may know more by now
        for state in states:
            for kind, up_to, render in (
                ("delivered", state.delivered, render_delivered),
                ("read", state.read, render_read),
            ):
                key = state.reader, kind
                if self.committing is not None and up_to and self.committing(user, state.reader):
                    self._later.add(connection)
                elif up_to and key not in newer:
                    risen = up_to > told.get(key, 0)
                    told[key] = max(up_to, told.get(key, 0))
                    if risen and others:
                        self.tell_here(Message(f"inbox/{user}/receipt/{state.reader}", render(up_to)))
                    else:
                        connection.receipt(state.reader, render(told[key]))

    async def _read(self, connection: Connection, user: str) -> list[ReceiptState]:
        """Nothing while the store is unavailable: the connection is told with a later tick, and is not held up."""
        try:
            return await self._store.receipts_for(user, limit=self._node.limits.max_receipts_at_connect)
        except StoreUnavailable:
            if connection.closed is None:
                self._behind.add(connection)
            return []
