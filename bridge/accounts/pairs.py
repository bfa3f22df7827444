"""What may happen between two users: pure rules over one row of `im_relation`.

The row's user 1 is the smaller name (article 9). Seen from one member the other is the *peer*:

    none ──ask──> asked by me ──peer accepts, or asks too──> friends ──either ends it──> none
                  asked by peer ──I decline──> none

Blocking lies across: each member may block the other at any time, in any state. A block of mine hides the peer's
requests from me and takes back my own; a friendship survives it asleep. What the peer asks while blocked is kept
where only the peer sees it, and goes when the block goes.
"""

from __future__ import annotations

import msgspec

from aldis.bridge.accounts.records import RelationState


def ordered(a: str, b: str) -> tuple[str, str]:
    """The pair as the table stores it. Compares code points, as both databases compare these ASCII names."""
    return (a, b) if a < b else (b, a)


class Pair(msgspec.Struct, frozen=True):
    """The state of a relation as `me` sees it: facts in, the next value out."""

    me: str
    peer: str
    state: RelationState
    blocked: int

    @property
    def _side(self) -> int:
        return 1 if self.me < self.peer else 2

    @property
    def friends(self) -> bool:
        return self.state is RelationState.FRIENDS

    @property
    def open(self) -> bool:
        """Whether the two may write to each other."""
        return self.friends and not self.blocked

    @property
    def asked_by_me(self) -> bool:
        return self.state == self._side

    @property
    def asked_by_peer(self) -> bool:
        return self.state == 3 - self._side

    @property
    def blocked_by_me(self) -> bool:
        return bool(self.blocked & self._side)

    @property
    def blocked_by_peer(self) -> bool:
        return bool(self.blocked & (3 - self._side))

    def asked(self) -> Pair:
        """After I asked: crossing requests make friends, and a repeated request changes nothing."""
        if self.friends or self.asked_by_me:
            return self
        return self.befriended() if self.asked_by_peer else self._in(RelationState(self._side))

    def befriended(self) -> Pair:
        return self._in(RelationState.FRIENDS)

    def parted(self) -> Pair:
        """After a decline or the end of a friendship."""
        return self._in(RelationState.NONE)

    def block(self) -> Pair:
        """After I blocked the peer."""
        state = RelationState.NONE if self.asked_by_me else self.state
        return Pair(self.me, self.peer, state, self.blocked | self._side)

    def unblock(self) -> Pair:
        """After I took my block back, with it what the peer has asked in the meantime."""
        state = RelationState.NONE if self.asked_by_peer else self.state
        return Pair(self.me, self.peer, state, self.blocked & ~self._side)

    def _in(self, state: RelationState) -> Pair:
        return Pair(self.me, self.peer, state, self.blocked)
