"""Plays faults against a world under load, lets it come to rest, and has the history judged."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql

from tests.faults import rules_messages, rules_receipts, store
from tests.faults.cast import Cast, Stage, draw
from tests.faults.checker import check, report
from tests.faults.faults import Fault, Scene
from tests.faults.generator import Load
from tests.faults.history import Event, Log, What, load
from tests.faults.view import View
from tests.faults.world import World
from tests.people import Person

EVENTUAL = (
    rules_messages.everything_arrives,
    rules_messages.copies_arrive,
    rules_messages.everywhere_or_nowhere,
    rules_receipts.receipts_arrive,
)
"""What need not hold yet, but must hold soon."""
STILL = 0.7
"""Seconds without any event after which we look whether all has come to rest."""


class Violation(Exception):
    """The history breaks an invariant; the text is the report."""


class Play:
    """One cast in one world. A round is: load, faults, rest, judgement. Its history is in a file of its own."""

    def __init__(
        self, world: World, seed: int, *, rate: float = 60.0, quarrels: int = 2, patience: float = 30.0
    ) -> None:
        self.world = world
        self.seed = seed
        self.patience = patience
        self.chance = random.Random(seed)
        self.cast: Cast = draw(seed, rate, quarrels)
        self.totals: Counter[str] = Counter()
        self.slowest: dict[str, float] = {"recovery": 0.0, "rest": 0.0, "fail-over": 0.0}
        self._quarrels = list(self.cast.quarrels)
        self._doomed = list(self.cast.doomed)
        self._people: dict[str, Person] = {}
        self._round = 0
        self._standing: list[Event] = []
        self._base: dict[str, int] = {}
        self._newest = 0
        self.log: Log
        self.load: Load

    def path(self) -> Path:
        return self.world.folder / f"history-{self.seed}-{self._round:03}.jsonl"

    # Beginning and end

    def begin(self) -> None:
        """Accounts, friends, every device connected once."""
        server = self.world.accounts
        server.register(*self.cast.users)
        self._people = {user: Person(server, user) for user in self.cast.users}
        with ThreadPoolExecutor(4) as pool:
            logins = pool.map(lambda one: self._people[one.user].token(one.device), self.cast.devices)
            names = [f"{one.user}/{one.device}" for one in self.cast.devices]
            tokens = dict(zip(names, logins, strict=True))
            list(pool.map(lambda pair: self._people[pair[0]].befriend(self._people[pair[1]]), self.cast.friends))
        self._base, self._newest = store.heads(self.world.ask), store.newest_mid(self.world.ask)
        self.log = Log(self.path())
        self._preamble()
        stage = Stage(self.cast, tokens, self.world.addresses, str(self.path()))
        self.load = Load(stage, self.world.folder)
        self._until(lambda: not self.load.status()["away"], "every device connected", 20)

    def end(self) -> None:
        if hasattr(self, "load"):
            self.load.end()
            self.log.close()

    def _preamble(self) -> None:
        allowance = {"block": 2.0, "kick": 2.0} if "redis" in self.world.has else {}
        # where messages come from a journal, those of several pairs are numbered before they are in any inbox
        by_pair = "redis" in self.world.has and "hints" not in self.world.has
        self.log.note(What.RUN, data={"seed": self.seed, "mids_by_pair": by_pair, **allowance})
        for one in self.cast.devices:
            self.log.note(What.DEVICE, user=one.user, device=one.device, qos=one.qos, data={"clean": one.clean})
        for first, second in self.cast.friends:
            self.log.note(What.FRIENDS, user=first, peer=second)
        now = time.monotonic()
        for event in self._standing:
            event.t = now
        self.log.write(self._standing)

    # A round

    def round(self, faults: Sequence[Fault], seconds: float, *, quarrel: bool = False) -> None:
        """The faults one after the other, each for its time, under load. Raises `Violation`."""
        with self.playing(seconds, quarrel=quarrel):
            for one in faults:
                self.inflict([one])
                time.sleep(0.5)

    @contextmanager
    def playing(self, seconds: float, *, quarrel: bool = False) -> Iterator[None]:
        """Load for at least so long, whatever is done meanwhile; then rest and judgement."""
        if self._round:
            self.log.turn(self.path())
            self._preamble()
            self.load.order("turn", log=str(self.path()))
        ended = threading.Event()
        sampling = threading.Thread(target=self._sample, args=[ended], daemon=True)
        sampling.start()
        self.load.order("publish")
        begun = time.monotonic()
        try:
            time.sleep(min(1.0, seconds / 4))
            yield
            if quarrel:
                self._quarrel()
            time.sleep(max(0.0, seconds - (time.monotonic() - begun)))
        finally:
            ended.set()
            sampling.join()
        self._rest()
        self._judge()

    def inflict(self, faults: Sequence[Fault]) -> None:
        """These faults at the same time, until the longest is over."""
        scene = Scene(
            self.world,
            self.load,
            self.chance,
            self.cast.arena,
            [(one.user, one.device) for one in self.cast.devices if one.device not in ("doomed",)],
            lambda node: self.log.note(What.FAULT, kind="killed", node=node) and None,
        )
        playing: list[tuple[Fault, AbstractContextManager[None]]] = []
        try:
            for one in faults:
                self.log.note(What.FAULT, note=one.name, kind="begins")
                play = one.play(scene)
                play.__enter__()
                playing.append((one, play))
            time.sleep(max((one.lasts for one in faults), default=0.0))
        finally:
            with ExitStack() as ending:  # all of them, also when one of them fails to
                for one, play in playing:
                    ending.callback(self._over, one, play)

    def _over(self, fault: Fault, play: AbstractContextManager[None]) -> None:
        play.__exit__(None, None, None)
        self.log.note(What.FAULT, note=fault.name, kind="ends")
        self.totals["faults"] += 1

    def _quarrel(self) -> None:
        """One friendship ends by a block or by removal, one device is kicked."""
        if self._quarrels:
            user, peer = self._quarrels.pop()
            self.log.note(What.FORBIDDING, user=user, peer=peer)
            token = self._people[user].token("phone")
            if self.chance.random() < 0.5:
                self.world.accounts.rest("PUT", f"/v1/blocks/{peer}", token=token)
            else:
                self.world.accounts.rest("DELETE", f"/v1/friends/{peer}", token=token)
            self.log.note(What.FORBIDDEN, user=user, peer=peer)
        if self._doomed:
            user, device = self._doomed.pop()
            token = self._people[user].token("phone")
            self.log.note(What.KICKING, user=user, device=device)
            self.world.accounts.rest("DELETE", f"/v1/devices/{device}", token=token)
            self.log.note(What.KICKED, user=user, device=device)
        time.sleep(3)  # for what may not come any more

    def _sample(self, ended: threading.Event) -> None:
        while not ended.wait(1.0):
            with suppress(pymysql.err.MySQLError, OSError, RuntimeError):
                self.log.note(What.EPOCHS, data=store.epochs(self.world.ask))

    # Rest

    def _rest(self) -> None:
        """Until everybody is there and nothing moves, or the patience is over; then what the servers hold is noted."""
        for user, device in self.cast.doomed:
            if (user, device) not in self._doomed:
                self.load.order("leave", user=user, device=device)
        self.load.order("hush")
        begun = time.monotonic()
        self.log.note(What.QUIET)
        open_ = "never looked"
        while open_ and time.monotonic() < begun + self.patience:
            time.sleep(0.1)
            open_ = self._still_open()
        self.slowest["rest"] = max(self.slowest["rest"], time.monotonic() - begun)
        self.log.note(What.STORE, data=store.rows(self.world.ask, self.cast.users, self._base, self._newest))
        self.log.note(What.EPOCHS, data=store.epochs(self.world.ask))
        for node in self.world.nodes:
            if node.alive:
                self.log.note(What.RESOURCES, node=node.name, data=node.resources())
        self.log.note(What.END, note=open_)

    def _still_open(self) -> str:
        """What keeps the world from being at rest; empty if nothing does."""
        status = self.load.status()
        if status["open"] or status["away"]:
            return f"open: {status['open']}, away: {status['away']}"
        size = self.path().stat().st_size
        time.sleep(STILL)
        if self.path().stat().st_size != size:
            return "things still happen"
        view = View(load(self.path()))
        for rule in EVENTUAL:
            if problems := rule(view):
                return f"{rule.__name__}: {problems[0]}"
        found = store.rows(self.world.ask, self.cast.users, self._base, self._newest)
        for user, devices in found["cursors"].items():
            for device, cursor in devices.items():
                player = view.players.get((user, device))
                lasting = player is not None and player.qos and player.gone > time.monotonic()
                if lasting and user in found["inboxes"] and cursor != found["inboxes"][user][1]:
                    return f"the cursor of {user}/{device} is {cursor} of {found['inboxes'][user][1]}"
        return ""

    def _judge(self) -> None:
        events = load(self.path())
        self._count(events)
        broken = check(events)
        if broken:
            raise Violation(f"seed {self.seed}, history {self.path()}\n{report(broken)}")
        self._carry_over(View(events))
        self._round += 1

    def _carry_over(self, view: View) -> None:
        """What the next round has to know of this one."""
        carried = [
            event
            for event in view.events
            if event.what in (What.FORBIDDING, What.FORBIDDEN, What.KICKING, What.RESOURCES)
        ]
        first = {(event.node, event.data["pid"]): event for event in reversed(carried) if event.what is What.RESOURCES}
        known = {(event.node, event.data.get("pid")) for event in self._standing if event.what is What.RESOURCES}
        resources = [event for key, event in first.items() if key not in known]
        keep = [event for event in self._standing if event.what not in (What.STANDING, What.FLOOR, What.CONNECTED)]
        self._base = store.heads(self.world.ask)
        self._newest = store.newest_mid(self.world.ask)
        now = time.monotonic()
        standing = [event for event in carried if event.what is not What.RESOURCES and event not in keep]
        self._standing = keep + resources + standing
        self._standing += [
            Event(now, What.STANDING, user=player.user, device=player.device, n=self._base.get(player.user, 0))
            for player in view.players.values()
        ]
        floors: dict[tuple[str, str, str], int] = {}
        for (reader, peer), mid in view.strongest.items():
            floors[reader, peer, "delivered"] = mid
        for event in view.of(What.READING, What.FLOOR):
            if event.what is What.READING or event.kind == "read":
                key = event.user, event.peer, "read"
                floors[key] = max(floors.get(key, 0), event.up_to)
        self._standing += connected(view.events).values()
        self._standing += [
            Event(now, What.FLOOR, user=reader, peer=peer, kind=kind, up_to=mid)
            for (reader, peer, kind), mid in floors.items()
        ]

    # Figures

    def _count(self, events: Sequence[Event]) -> None:
        kinds = {
            What.PUBLISHING: "messages",
            What.GOT: "items received",
            What.CONNECTED: "connections",
            What.AGAIN: "repeats by the apps",
        }
        for event in events:
            if event.what in kinds:
                self.totals[kinds[event.what]] += 1
        seen: set[tuple[Any, ...]] = set()
        for event in events:
            if event.what is What.GOT:
                key = event.user, event.device, event.n
                self.totals["items that came again"] += key in seen
                seen.add(key)
        for recovery in recoveries(events):
            self.slowest["recovery"] = max(self.slowest["recovery"], recovery)
        for seconds in fail_overs(events):
            self.totals["fail-overs"] += 1
            self.slowest["fail-over"] = max(self.slowest["fail-over"], seconds)

    def _until(self, holds: Any, what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > deadline:
                raise Violation(f"within {timeout} s not: {what}; {self.load.status()}")
            time.sleep(0.05)

    def summary(self) -> str:
        lines = [f"{what:24} {count:10}" for what, count in sorted(self.totals.items())]
        return "\n".join(lines + [f"slowest {what:16} {seconds:10.2f} s" for what, seconds in self.slowest.items()])


def recoveries(events: Sequence[Event]) -> list[float]:
    """For each end of a fault, how long it took until every lasting sender had an acknowledgement for something that it
    published later."""
    ends = [event.t for event in events if event.what is What.FAULT and event.kind == "ends"]
    published = {event.token: event for event in events if event.what is What.PUBLISHING}
    found = []
    for end in ends:
        first: dict[tuple[str, str], float] = {}
        for event in events:
            if event.what is What.ACKNOWLEDGED and event.token in published and published[event.token].t > end:
                first.setdefault((event.user, event.device), event.t - end)
        if first:
            found.append(max(first.values()))
    return found


def connected(events: Iterable[Event]) -> dict[tuple[str, str], Event]:
    """Where each device has last been connected, those that were kicked aside."""
    last: dict[tuple[str, str], Event] = {}
    for event in events:
        if event.what is What.CONNECTED:
            last[event.user, event.device] = event
        elif event.what is What.KICKING:
            last.pop((event.user, event.device), None)
    return last


def fail_overs(events: Sequence[Event]) -> list[float]:
    """For each device whose node was killed: from its CONNECT being accepted elsewhere to the first item there."""
    found = []
    for killed in (event for event in events if event.what is What.FAULT and event.kind == "killed"):
        for place, before in connected(event for event in events if event.t < killed.t).items():
            after = [event for event in events if event.t > killed.t and (event.user, event.device) == place]
            again = next((event for event in after if event.what is What.CONNECTED and event.node != killed.node), None)
            if before.node != killed.node or again is None:
                continue
            first = next((event.t for event in after if event.what is What.GOT and event.conn == again.conn), None)
            if first is not None:
                found.append(first - again.t)
    return found
