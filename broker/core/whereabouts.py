"""What a node knows of the other nodes on which users have devices. Pure.

A memory of answers, kept true by what the other nodes say of themselves, and emptied when something of that may have
been missed. A user who is not in it has to be asked for; what is said while the question is under way wins over the
answer.

    known[user]     the other nodes, perhaps none; no entry: unknown
    recent          what was committed lately, by user: a node that begins to hold a user while we commit something for
                    it may be told too late of us, and we of it; so whoever hears that a user is somewhere new tells
                    that node the newest number that it knows of
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Nodes = frozenset[str]

NOWHERE: Nodes = frozenset()


class Question:
    """Users that are being asked for, and what was said of them meanwhile."""

    __slots__ = ("outdated", "said", "users")

    def __init__(self, users: Iterable[str]) -> None:
        self.users = tuple(users)
        self.outdated = False
        self.said: list[tuple[str, str, bool]] = []


class Whereabouts:
    """The other nodes of users, as this node `me` knows them; at most `limit` users are remembered."""

    def __init__(self, me: str, limit: int) -> None:
        self.me = me
        self.limit = limit
        self.known: dict[str, Nodes] = {}
        self._questions: set[Question] = set()
        self._recent: dict[str, int] = {}
        self._less_recent: dict[str, int] = {}

    # Questions and answers

    def ask(self, users: Iterable[str]) -> Question:
        """The caller asks the user status, then calls `answered` or `unanswered`."""
        question = Question(users)
        self._questions.add(question)
        return question

    def answered(self, question: Question, connectors: Mapping[str, Nodes]) -> dict[str, Nodes]:
        """What the user status said, put right by what was said meanwhile. Remembered, unless something may have been
        missed since the question."""
        self._questions.discard(question)
        found = {user: set(connectors.get(user, NOWHERE)) - {self.me} for user in question.users}
        for user, node, there in question.said:
            (found[user].add if there else found[user].discard)(node)
        nodes = {user: frozenset(there) if there else NOWHERE for user, there in found.items()}
        if not question.outdated:
            self.known.update(nodes)
            while len(self.known) > self.limit:
                del self.known[next(iter(self.known))]
        return nodes

    def unanswered(self, question: Question) -> None:
        """The user status could not be asked."""
        self._questions.discard(question)

    # What the other nodes say

    def attached(self, node: str, users: Iterable[str]) -> None:
        """`node` now holds a device of each of these users."""
        self._said(node, users, there=True)

    def detached(self, node: str, users: Iterable[str]) -> None:
        """`node` holds none of them any more."""
        self._said(node, users, there=False)

    def _said(self, node: str, users: Iterable[str], *, there: bool) -> None:
        if node == self.me:
            return
        known = self.known
        for user in users:
            nodes = known.get(user)
            if nodes is not None and (node in nodes) is not there:
                known[user] = nodes | {node} if there else (nodes - {node}) or NOWHERE
            for question in self._questions:
                if user in question.users:
                    question.said.append((user, node, there))

    def gone(self, node: str) -> None:
        """The node is dead: it holds nobody."""
        for user, nodes in list(self.known.items()):
            if node in nodes:
                self.known[user] = (nodes - {node}) or NOWHERE

    def missed(self) -> None:
        """Something that was said may not have come: everything is unknown again."""
        self.known.clear()
        for question in self._questions:
            question.outdated = True

    # What was committed lately

    def committed(self, user: str, n: int) -> None:
        self._recent[user] = n

    def recent(self, user: str) -> int:
        """The newest number that was committed for the user in this or the last period, 0 if none was."""
        return self._recent.get(user) or self._less_recent.get(user, 0)

    def next_period(self) -> None:
        """Called regularly, not more often than the longest time that a parcel may be on its way."""
        self._less_recent, self._recent = self._recent, {}
