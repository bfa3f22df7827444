"""Who has handled what was told to all: the questions that are open, and who has yet to answer them."""

from __future__ import annotations

import asyncio


class _Question:
    """From which number on each of those asked must have handled everything."""

    __slots__ = ("outcome", "since", "told")

    def __init__(self, since: dict[str, int], told: int, outcome: asyncio.Future[bool]) -> None:
        self.since = since
        self.told = told
        self.outcome = outcome

    def excuse(self, node: str) -> None:
        self.since.pop(node, None)
        if not self.since:
            self.end(True)

    def end(self, outcome: bool) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Questions:
    """`told` is always the number of the last frame to all.

    What was told before an earlier question is not asked for again: that one has said how it ended, and who was not
    content has told it once more. Nor need a node have what was told before it joined.
    """

    def __init__(self) -> None:
        self._known_since: dict[str, int] = {}
        self._open: dict[int, _Question] = {}
        self._last_token = 0
        self._asked_up_to = 0

    def joined(self, node: str, told: int) -> None:
        """There is a process where there was none, or another one: what its predecessor was asked, nobody answers."""
        self._known_since[node] = told
        self._excuse(node)

    def gone(self, node: str) -> None:
        self._known_since.pop(node, None)
        self._excuse(node)

    def ask(self, told: int) -> tuple[int, asyncio.Future[bool]]:
        """A token, and what becomes true when everybody has answered it, false when somebody has found a hole."""
        since = {node: 1 + max(self._asked_up_to, known) for node, known in self._known_since.items()}
        self._last_token += 1
        question = _Question(since, told, asyncio.get_running_loop().create_future())
        self._open[self._last_token] = question
        if not since:
            question.end(True)
        return self._last_token, question.outcome

    def answered(self, token: int, node: str, whole_from: int) -> None:
        question = self._open.get(token)
        if question is None:
            return
        since = question.since.get(node)
        if since is not None and whole_from > since:
            question.end(False)
        else:
            question.excuse(node)

    def close(self, token: int) -> None:
        """Nobody waits for it any more."""
        self._asked_up_to = max(self._asked_up_to, self._open.pop(token).told)

    def end(self) -> None:
        """Nobody will answer any more."""
        for question in self._open.values():
            question.end(False)

    def _excuse(self, node: str) -> None:
        for question in self._open.values():
            question.excuse(node)
