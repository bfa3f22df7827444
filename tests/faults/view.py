"""A history, put in order for the rules: what was sent, what each device got, who may write to whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.faults.history import Event, What

Place = tuple[str, str]
"""(user, device)"""
NEVER = float("inf")


@dataclass
class Send:
    """One message as its sender knows it."""

    event: Event
    acknowledged: float | None = None
    mid: int | None = None
    """By its first `sent` receipt, where it has an id."""
    failed: str = ""
    again: int = 0

    @property
    def token(self) -> str:
        return self.event.token

    @property
    def sender(self) -> Place:
        return self.event.user, self.event.device

    @property
    def pair(self) -> tuple[str, str]:
        return self.event.user, self.event.to

    @property
    def number(self) -> int:
        """Counts the messages of this device to this recipient."""
        return int(self.event.token.rsplit("#", 1)[1])

    @property
    def answered(self) -> bool:
        """Its sender knows it to be stored."""
        return not self.failed and (self.acknowledged is not None or self.mid is not None)

    def __str__(self) -> str:
        return f"{self.token} (id {self.event.id!r}, QoS {self.event.qos}, {self.event.t:.3f})"


@dataclass
class Player:
    """One device. `since`: from when on it is known to the server; `gone`: when it was kicked."""

    user: str
    device: str
    qos: int
    since: float = NEVER
    gone: float = NEVER
    standing: int | None = None
    got: list[Event] = field(default_factory=list)
    own: set[int] = field(default_factory=set)
    """Numbers of the copies of what it has sent itself: those come to its siblings only."""

    def __str__(self) -> str:
        return f"{self.user}/{self.device}"

    @cached_property
    def numbers(self) -> dict[int, Event]:
        """What came first under each number."""
        first: dict[int, Event] = {}
        for event in self.got:
            first.setdefault(event.n, event)
        return first

    @cached_property
    def tokens(self) -> set[str]:
        return {event.token for event in self.got if event.token}


class View:
    """Indexes over one history. The events must be in the order of their times."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.sends: dict[str, Send] = {}
        self.players: dict[Place, Player] = {}
        self.friends: set[frozenset[str]] = set()
        self.forbidding: dict[tuple[str, str], float] = {}
        """(who may no longer write, to whom) -> when that was asked for."""
        self.forbidden: dict[tuple[str, str], float] = {}
        """… -> when it was confirmed."""
        self.allowance: dict[str, float] = {"block": 0.0, "kick": 0.5, "owner": 1.0}
        self.firsts: dict[str, int] = {}
        """Token -> the lowest mid under which anybody has got it, or the store has it: that of its first copy."""
        by_id: dict[tuple[str, str, object], Send] = {}
        for event in events:
            self._take(event, by_id)
        for event in events:
            if event.what is What.GOT and event.kind == "sync" and (event.user, event.note) in self.players:
                self.players[event.user, event.note].own.add(event.n)
            elif event.what is What.STORE:
                self._own_copies(event.data)

    def _take(self, event: Event, by_id: dict[tuple[str, str, object], Send]) -> None:
        place = event.user, event.device
        match event.what:
            case What.RUN:
                self.allowance.update({key: event.data[key] for key in self.allowance if key in event.data})
            case What.DEVICE:
                self.players[place] = Player(*place, event.qos)
            case What.STANDING:
                self.players[place].standing = event.n
                self.players[place].since = min(event.t, self.players[place].since)
            case What.FRIENDS:
                self.friends.add(frozenset((event.user, event.peer)))
            case What.FORBIDDING:
                for pair in ((event.peer, event.user), (event.user, event.peer)):
                    self.forbidding.setdefault(pair, event.t)
            case What.FORBIDDEN:
                for pair in ((event.peer, event.user), (event.user, event.peer)):
                    self.forbidden.setdefault(pair, event.t)
            case What.KICKING:
                self.players[place].gone = event.t
            case What.SUBSCRIBED:
                self.players[place].since = min(event.t, self.players[place].since)
            case What.PUBLISHING:
                send = self.sends[event.token] = Send(event)
                if event.id is not None:
                    by_id[event.user, event.device, event.id] = send
            case What.AGAIN if event.token in self.sends:
                self.sends[event.token].again += 1
            case What.ACKNOWLEDGED if event.token in self.sends:
                send = self.sends[event.token]
                send.acknowledged = send.acknowledged or event.t
            case What.RECEIPT if event.kind in ("sent", "failed") and event.id is not None:
                known = by_id.get((event.user, event.device, event.id))
                if known is None:
                    return  # of an earlier round
                if event.kind == "failed":
                    known.failed = known.failed or event.note
                elif known.mid is None:
                    known.mid = event.mid
            case What.GOT:
                self.players[place].got.append(event)
                self._first(event.token, event.mid)
            case What.STORE:
                for mid, *_, token in event.data["messages"]:
                    self._first(token, mid)

    def _first(self, token: str, mid: int) -> None:
        if token:
            self.firsts[token] = min(mid, self.firsts.get(token, mid))

    def _own_copies(self, data: dict[str, Any]) -> None:
        """The store knows them even if no sibling has got them."""
        messages = {mid: (sender, device, recipient) for mid, sender, device, _, recipient, _ in data["messages"]}
        for user, (base, _, mids) in data["inboxes"].items():
            for n, mid in enumerate(mids, base + 1):
                sender, device, recipient = messages.get(mid, ("", "", user))
                if sender == user != recipient and (user, device) in self.players:
                    self.players[user, device].own.add(n)

    def of(self, *kinds: What) -> Iterable[Event]:
        return (event for event in self.events if event.what in kinds)

    def devices_of(self, user: str) -> list[Player]:
        return [player for player in self.players.values() if player.user == user]

    def obliged(self, send: Send) -> list[Player]:
        """The devices that must have this message in the end if it is stored at all: they were known before it was
        sent, can acknowledge, and were not kicked."""
        return [player for player in self.devices_of(send.event.to) if self._lasting(player, send)]

    def copied(self, send: Send) -> list[Player]:
        """The sender's other devices, which must have a copy."""
        if send.event.user == send.event.to:
            return []
        mine = self.devices_of(send.event.user)
        return [player for player in mine if player.device != send.event.device and self._lasting(player, send)]

    def _lasting(self, player: Player, send: Send) -> bool:
        return player.qos > 0 and player.gone == NEVER and player.since < send.event.t

    def welcome(self, send: Send) -> bool:
        """Whether sender and recipient were friends all the time until this message was answered."""
        if frozenset(send.pair) not in self.friends and send.event.user != send.event.to:
            return False
        return send.pair not in self.forbidding

    @cached_property
    def strongest(self) -> dict[tuple[str, str], int]:
        """(user, device) pairs are many; (reader, sender) -> highest mid that some device of the reader has taken in
        one piece from its beginning on, at the end of the history."""
        confirmed = Confirmed(self)
        for event in self.events:
            confirmed.see(event)
        return confirmed.up_to


class Confirmed:
    """How far the devices of each reader have taken what each sender sent, followed event by event: a message counts
    once the device has taken it and everything before it."""

    def __init__(self, view: View) -> None:
        self.up_to: dict[tuple[str, str], int] = defaultdict(int)
        self._place: dict[Place, int] = {}
        self._known: dict[Place, dict[int, Event]] = defaultdict(dict)
        self._taken: dict[Place, set[int]] = defaultdict(set)
        self._own = {(player.user, player.device): player.own for player in view.players.values()}
        for player in view.players.values():
            if player.standing is not None:
                self._place[player.user, player.device] = player.standing

    def see(self, event: Event) -> None:
        where = event.user, event.device
        if event.what is What.FLOOR and event.kind == "delivered":
            key = event.user, event.peer
            self.up_to[key] = max(self.up_to[key], event.up_to)
        elif event.what is What.GOT:
            self._known[where].setdefault(event.n, event)
            self._place.setdefault(where, event.n - 1)
        elif event.what is What.TAKING:
            self._taken[where].add(event.n)
            known, taken, own = self._known[where], self._taken[where], self._own[where]
            while (n := self._place.get(where, -2) + 1) in taken or n in own:
                self._place[where] = n
                item = known.get(n) if n in taken else None
                taken.discard(n)
                if item is not None and item.kind == "chat":
                    key = event.user, item.peer
                    self.up_to[key] = max(self.up_to[key], item.mid)
