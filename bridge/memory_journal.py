"""The in-process twin of the journal: the same promises, except that nothing outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aldis.bridge.journal_bounds import JournalBounds
from aldis.bridge.journal_numbers import accepted_at, is_plausible, next_mid, share_of, too_far
from aldis.broker.journal_ports import (
    Answer,
    Appended,
    Entry,
    JournalRefused,
    JournalUnavailable,
    Leases,
    Length,
    Poisoned,
)


@dataclass
class _Shard:
    last: int = 0
    total: int = 0
    trimmed: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)


class JournalBoard:
    """What the journals of several nodes have in common. `cut` makes it unreachable."""

    def __init__(self, shards: int, now_ms: Callable[[], int]) -> None:
        self.now_ms = now_ms
        self.shards = [_Shard() for _ in range(shards)]
        self.ids: dict[tuple[str, str, str], tuple[int, Answer]] = {}
        self.seqs: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}
        self.writers: dict[str, tuple[int, list[Answer | None]]] = {}
        self.leases: dict[int, tuple[str, int]] = {}
        self.storers: dict[str, tuple[int, bool, bool]] = {}
        self.poison: dict[str, Poisoned] = {}
        self.numbers = 0
        self.cut = False
        self.grown = asyncio.Event()


class MemoryJournal:
    """Keeps `aldis.broker.journal_ports.Journal` in dictionaries. The number of shards is the board's."""

    def __init__(self, board: JournalBoard, bounds: JournalBounds) -> None:
        self._board = board
        self._bounds = bounds
        self.shards = len(board.shards)
        self._floor = 0

    async def open(self, *, newest: int) -> None:
        if not is_plausible(newest, self._board.now_ms()):
            raise JournalRefused(too_far(newest))
        self._floor = max(self._floor, newest)

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _there(self) -> JournalBoard:
        if self._board.cut:
            raise JournalUnavailable("the journal is cut off")
        return self._board

    async def append(self, writer: str, number: int, messages: Sequence[Appended]) -> list[Answer | None]:
        board = self._there()
        known = board.writers.get(writer, (0, []))
        if known[0] == number:
            return known[1]
        if known[0] > number:
            raise JournalUnavailable("a later batch of this writer is there already")
        full: set[int] = set()
        answers = [self._append(board, message, full) for message in messages]
        board.writers[writer] = (number, answers)
        grown, board.grown = board.grown, asyncio.Event()
        grown.set()
        return answers

    def _append(self, board: JournalBoard, message: Appended, full: set[int]) -> Answer | None:
        now, device = board.now_ms(), (message.sender, message.device)
        shard = board.shards[message.shard]
        if message.id is not None:
            until, first = board.ids.get((*device, message.id), (0, None))
            if first is not None and until > now:
                return Answer(first.mid, first.created, True)
        elif message.seq is not None and message.seq <= self._seqs(device).get(message.recipient, 0):
            return Answer(0, 0, True)
        size = shard.total - shard.trimmed + len(message.data)
        if message.shard in full or len(shard.entries) >= self._bounds.max_length or size > self._bounds.max_bytes:
            full.add(message.shard)
            return None
        shard.last = next_mid(max(shard.last, self._floor), now, message.shard, self.shards)
        shard.total += len(message.data)
        shard.entries[shard.last] = Entry(shard.last, shard.last, shard.total, bytes(message.data))
        answer = Answer(shard.last, message.created)
        if message.id is not None:
            board.ids[*device, message.id] = (now + self._bounds.remember, answer)
        if message.seq is not None:
            seqs = self._seqs(device)
            seqs[message.recipient] = max(seqs.get(message.recipient, 0), message.seq)
            board.seqs[device] = (now + self._bounds.remember, seqs)
        return answer

    def _seqs(self, device: tuple[str, str]) -> dict[str, int]:
        until, seqs = self._board.seqs.get(device, (0, {}))
        return seqs if until > self._board.now_ms() else {}

    async def read(self, after: Mapping[int, int], *, limit: int, size: int) -> dict[int, list[Entry]]:
        shards = self._there().shards
        behind = {
            shard: [entry for at, entry in shards[shard].entries.items() if at > position]
            for shard, position in after.items()
        }
        found = {
            shard: _portion(entries, -(-limit // len(after)), size // len(after)) for shard, entries in behind.items()
        }
        for shard, entries in behind.items():
            taken = [entry for one in found.values() for entry in one]
            left, room = limit - len(taken), size - sum(len(entry.data) for entry in taken)
            if left > 0 and room > 0:
                found[shard] += _portion(entries[len(found[shard]) :], left, room)
        return {shard: entries for shard, entries in found.items() if entries}

    async def wait(self, after: Mapping[int, int], seconds: float) -> list[int]:
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            board = self._there()
            grown = board.grown
            found = [
                shard for shard, position in after.items() if max(board.shards[shard].entries, default=0) > position
            ]
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0:
                return found
            try:
                await asyncio.wait_for(grown.wait(), left)
            except TimeoutError:
                return []

    async def stored(self, last: Mapping[int, Entry]) -> None:
        for shard, entry in last.items():
            kept = self._there().shards[shard]
            kept.entries = {one: other for one, other in kept.entries.items() if one > entry.position}
            kept.trimmed = max(kept.trimmed, entry.place)

    async def correct(self, sender: str, device: str, id: str, answer: Answer) -> None:
        board = self._there()
        board.ids[sender, device, id] = (board.now_ms() + self._bounds.remember, Answer(answer.mid, answer.created))

    async def find(self, sender: str, device: str, id: str) -> Answer | None:
        board = self._there()
        until, first = board.ids.get((sender, device, id), (0, None))
        return Answer(first.mid, first.created, True) if first is not None and until > board.now_ms() else None

    async def last_seq(self, sender: str, device: str, recipient: str) -> int:
        self._there()
        return self._seqs((sender, device)).get(recipient, 0)

    async def forget_device(self, sender: str, device: str) -> None:
        self._there().seqs.pop((sender, device), None)

    async def leases(self, storer: str, *, accepting: bool, storing: bool = True) -> Leases:
        board = self._there()
        now = board.now_ms()
        board.storers[storer] = (now + self._bounds.lease, accepting, storing)
        board.storers = {one: state for one, state in board.storers.items() if state[0] > now}
        board.leases = {shard: held for shard, held in board.leases.items() if held[1] > now}
        if not storing:
            board.leases = {shard: held for shard, held in board.leases.items() if held[0] != storer}
            return Leases(frozenset(), 0, self._others(storer))
        share = share_of(self.shards, sum(stores for _, _, stores in board.storers.values()))
        mine = {shard for shard, held in board.leases.items() if held[0] == storer}
        free = (shard for shard in range(self.shards) if shard not in board.leases)
        while len(mine) < share and (shard := next(free, None)) is not None:
            mine.add(shard)
        for shard in mine:
            board.leases[shard] = (storer, now + self._bounds.lease)
        return Leases(frozenset(mine), max(0, len(mine) - share), self._others(storer))

    def _others(self, storer: str) -> int:
        return sum(accepts for one, (_, accepts, _) in self._board.storers.items() if one != storer)

    async def give_up(self, storer: str, shards: Sequence[int]) -> None:
        board = self._there()
        for shard in shards:
            if board.leases.get(shard, ("", 0))[0] == storer:
                del board.leases[shard]

    async def leave(self, storer: str) -> None:
        board = self._there()
        board.storers.pop(storer, None)
        board.leases = {shard: held for shard, held in board.leases.items() if held[0] != storer}

    async def lengths(self) -> list[Length]:
        return [
            Length(len(one.entries), one.total - one.trimmed, accepted_at(min(one.entries)) if one.entries else 0)
            for one in self._there().shards
        ]

    async def set_aside(self, shard: int, entry: Entry, reason: str) -> bool:
        board = self._there()
        if len(board.poison) >= self._bounds.max_poison:
            return False
        board.numbers += 1
        number = f"{board.now_ms()}-{board.numbers}"
        if entry.position in board.shards[shard].entries:
            board.poison[number] = Poisoned(number, shard, entry.mid, reason, entry.data)
            del board.shards[shard].entries[entry.position]
            board.shards[shard].trimmed = max(board.shards[shard].trimmed, entry.place)
        return True

    async def poisoned(self, *, limit: int) -> list[Poisoned]:
        return list(self._there().poison.values())[:limit]

    async def poison_length(self) -> int:
        return len(self._there().poison)

    async def put_back(self, number: str) -> bool:
        board = self._there()
        poison = board.poison.pop(number, None)
        if poison is None:
            return False
        shard = board.shards[poison.shard]
        shard.last = next_mid(max(shard.last, self._floor), board.now_ms(), poison.shard, self.shards)
        shard.total += len(poison.data)
        shard.entries[shard.last] = Entry(shard.last, poison.mid, shard.total, poison.data)
        grown, board.grown = board.grown, asyncio.Event()
        grown.set()
        return True

    async def drop(self, number: str) -> bool:
        return self._there().poison.pop(number, None) is not None


def _portion(entries: Sequence[Entry], limit: int, size: int) -> list[Entry]:
    """One at least."""
    found: list[Entry] = []
    for entry in entries:
        if found and (len(found) >= limit or size <= 0):
            break
        found.append(entry)
        size -= len(entry.data)
    return found
