"""What the demo holds the server to: the list of promises, and the rules that judge a whole journal. Pure.

A rule takes the events of a run and returns a sentence for every violation, none if all is well. The rules know
nothing of the story that was played; they must hold for any run with any clients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from aldis.mobile_client_demo.journal import (
    Arrived,
    Disconnected,
    Event,
    ItemAcknowledged,
    Malformed,
    Missing,
    Published,
    ReadSaid,
    ReceiptArrived,
)
from aldis.mobile_client_demo.rest import RestError
from aldis.mobile_client_demo.wire import Item

Rule = Callable[[Sequence[Event]], list[str]]
E = TypeVar("E", bound=Event)


class Broken(Exception):
    """A promise does not hold; the text says what was seen in place of what."""


@dataclass
class Promise:
    """One line of the final list. `problem` is None until judged, empty when kept."""

    words: str
    problem: str | None = None

    @property
    def kept(self) -> bool:
        return self.problem == ""


class Checklist:
    """The promises of a run in the order in which they were made. What was never reached counts as broken."""

    def __init__(self, promises: dict[str, str]) -> None:
        self._promises = {key: Promise(words) for key, words in promises.items()}
        self._obstacle = "the run ended early"

    @contextmanager
    def judging(self, key: str) -> Iterator[None]:
        """Keeps the promise if the block ends well. A `Broken`, `Missing` or `RestError` marks it broken and goes on
        up as `Broken`, because what follows in the same scene would build on it."""
        promise = self._promises[key]
        try:
            yield
        except (Broken, Missing, RestError) as error:
            promise.problem = promise.problem or str(error)
            raise Broken(str(error)) from error
        promise.problem = promise.problem or ""

    def judge(self, key: str, problems: Sequence[str]) -> None:
        """Kept if there are no problems; otherwise broken by the first, and the number of the others is told."""
        promise = self._promises[key]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            promise.problem = promise.problem or problems[0] + more
        else:
            promise.problem = promise.problem or ""

    def stopped(self, problem: str) -> None:
        """A scene could not go on; the newest such problem is why later promises were not reached."""
        self._obstacle = problem

    def finish(self) -> list[Promise]:
        """All promises, the unjudged ones broken."""
        for promise in self._promises.values():
            if promise.problem is None:
                promise.problem = f"not reached: {self._obstacle}"
        return list(self._promises.values())


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Broken(otherwise)


# Rules over a whole journal


def well_formed(events: Sequence[Event]) -> list[str]:
    """Every packet keeps the wire contract."""
    return [f"{_who(event)}: {event.problem}" for event in events if isinstance(event, Malformed)]


def once_and_in_order(events: Sequence[Event]) -> list[str]:
    """Per device: an n that is new is higher than all before it, a repeat of n is the same item again, no message
    comes under two numbers, and mids rise with n."""
    problems: list[str] = []
    inboxes: dict[str, dict[int, Item]] = {}
    numbers: dict[str, dict[int, int]] = {}
    newest: dict[str, Item] = {}
    for event in _of(events, Arrived):
        item, who = event.item, _who(event)
        known = inboxes.setdefault(who, {})
        if item.n in known:
            if known[item.n] != item:
                problems.append(f"{who}: n {item.n} came twice with different contents")
            continue
        known[item.n] = item
        last = newest.setdefault(who, item)
        if item.n < last.n:
            problems.append(f"{who}: n {item.n} came after n {last.n}")
        elif item.n > last.n and item.mid < last.mid:
            problems.append(f"{who}: mid {item.mid} at n {item.n} came after mid {last.mid}")
        newest[who] = max(last, item, key=lambda one: one.n)
        first = numbers.setdefault(who, {}).setdefault(item.mid, item.n)
        if first != item.n:
            problems.append(f"{who}: mid {item.mid} came as n {first} and as n {item.n}")
    return problems


def same_inbox_everywhere(events: Sequence[Event]) -> list[str]:
    """Two devices of a user that both get an n get the same item under it."""
    problems: list[str] = []
    inboxes: dict[str, dict[int, Item]] = {}
    for event in _of(events, Arrived):
        first = inboxes.setdefault(event.user, {}).setdefault(event.item.n, event.item)
        if first != event.item:
            problems.append(f"{_who(event)}: n {event.item.n} is another item than on another device")
    return problems


def one_message_per_id(events: Sequence[Event]) -> list[str]:
    """An id has one mid for ever and a mid one id; in the order of `seq`, the mids rise."""
    problems: list[str] = []
    mids: dict[tuple[str, str, object], int] = {}
    ids: dict[int, tuple[str, str, object]] = {}
    seqs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    numbered: dict[tuple[str, str, object], Published] = {}
    for published in _of(events, Published):
        numbered[published.user, published.device, published.id] = published
    for event in _of(events, ReceiptArrived):
        receipt, key = event.receipt, (event.user, event.device, event.receipt.id)
        if receipt.type != "sent" or receipt.id is None:
            continue
        if mids.setdefault(key, receipt.mid) != receipt.mid:
            problems.append(f"{_who(event)}: message {receipt.id} got mid {mids[key]} and then mid {receipt.mid}")
        if ids.setdefault(receipt.mid, key) != key:
            problems.append(f"{_who(event)}: mid {receipt.mid} was given to two messages")
        message = numbered.get(key)
        if message is not None and message.seq is not None:
            seqs.setdefault((_who(event), message.to), []).append((message.seq, receipt.mid))
    for (who, to), pairs in seqs.items():
        pairs = sorted(set(pairs))
        problems += [
            f"{who}: seq {later} to {to} has mid {mid2}, seq {earlier} has mid {mid1}"
            for (earlier, mid1), (later, mid2) in pairwise(pairs)
            if later != earlier and mid2 <= mid1
        ]
    return problems


def sent_comes_first(events: Sequence[Event]) -> list[str]:
    """No delivered or read covers a message before its own `sent` has come.

    A message that was unanswered when its connection ended is excused: its `sent` may have been lost with it, and
    the state of the receipts, sent at the next connect, may then come before the answer to the repeat.
    """
    problems: list[str] = []
    covered: dict[tuple[str, str], tuple[int, str]] = {}
    unanswered: dict[str, set[object]] = {}
    for event in events:
        who = _who(event)
        if isinstance(event, Published) and not event.again:
            unanswered.setdefault(who, set()).add(event.id)
        elif isinstance(event, Disconnected):
            unanswered.pop(who, None)
        elif isinstance(event, ReceiptArrived):
            receipt, key = event.receipt, (who, event.receipt.peer)
            if receipt.type in ("delivered", "read"):
                covered[key] = max(covered.get(key, (0, "")), (receipt.up_to, receipt.type))
            elif receipt.id in unanswered.get(who, ()):
                unanswered[who].discard(receipt.id)
                up_to, kind = covered.get(key, (0, ""))
                if receipt.type == "sent" and receipt.mid <= up_to:
                    problems.append(f"{who}: {kind} up to {up_to} came before sent for mid {receipt.mid}")
    return problems


def never_back(events: Sequence[Event]) -> list[str]:
    """Cumulative receipts of one peer never fall."""
    problems: list[str] = []
    highest: dict[tuple[str, str, str, str], int] = {}
    for event in _of(events, ReceiptArrived):
        receipt = event.receipt
        if receipt.type in ("delivered", "read"):
            key = (event.user, event.device, receipt.peer, receipt.type)
            if receipt.up_to < highest.get(key, 0):
                problems.append(f"{_who(event)}: {receipt.type} fell from {highest[key]} to {receipt.up_to}")
            highest[key] = max(highest.get(key, 0), receipt.up_to)
    return problems


def delivered_after_puback(events: Sequence[Event]) -> list[str]:
    """`delivered` up to a mid only after some device of the recipient has acknowledged that item."""
    problems: list[str] = []
    acknowledged: dict[tuple[str, str], int] = {}
    for event in events:
        if isinstance(event, ItemAcknowledged) and event.item.kind == "chat":
            key = (event.user, event.item.sender)
            acknowledged[key] = max(acknowledged.get(key, 0), event.item.mid)
        elif isinstance(event, ReceiptArrived) and event.receipt.type == "delivered":
            done = acknowledged.get((event.receipt.peer, event.user), 0)
            if event.receipt.up_to > done:
                problems.append(
                    f"{_who(event)}: delivered up to {event.receipt.up_to}, but {event.receipt.peer} has acknowledged "
                    f"only up to {done}"
                )
    return problems


def read_after_the_app(events: Sequence[Event]) -> list[str]:
    """`read` up to a mid only after the recipient's app has said so."""
    problems: list[str] = []
    said: dict[tuple[str, str], int] = {}
    for event in events:
        if isinstance(event, ReadSaid):
            key = (event.user, event.peer)
            said[key] = max(said.get(key, 0), event.up_to)
        elif isinstance(event, ReceiptArrived) and event.receipt.type == "read":
            done = said.get((event.receipt.peer, event.user), 0)
            if event.receipt.up_to > done:
                problems.append(
                    f"{_who(event)}: read up to {event.receipt.up_to}, but {event.receipt.peer}'s app said {done}"
                )
    return problems


def arrived_as_sent(expected: Sequence[str], items: Sequence[Item]) -> str:
    """Empty if the chat items carry exactly the expected ids in this order; otherwise what differs."""
    got = [str(item.id) for item in items]
    wanted = list(expected)
    if got == wanted:
        return ""
    doubled = sorted({one for one in got if got.count(one) > 1})
    if doubled:
        return f"came twice: {', '.join(doubled)}"
    lost = [one for one in wanted if one not in got]
    if lost:
        return f"{len(lost)} of {len(wanted)} missing: {', '.join(lost[:5])}"
    strange = [one for one in got if one not in wanted]
    if strange:
        return f"came unasked: {', '.join(strange[:5])}"
    return f"came in the order {', '.join(got)} in place of {', '.join(wanted)}"


def _of(events: Sequence[Event], kind: type[E]) -> Iterator[E]:
    return (event for event in events if isinstance(event, kind))


def _who(event: Event) -> str:
    return f"{event.user} on {event.device}"
