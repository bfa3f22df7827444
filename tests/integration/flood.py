"""Many messages from many senders to receivers with several devices, whatever happens to the server; and at the end the
invariants that promises 1 to 5 amount to.

Every client is a thread that comes back whenever its connection is lost, sends again what was not acknowledged, and
keeps a journal. `Flood.finish` waits until all is acknowledged and everywhere, `Flood.check` judges the journals, and
`check_store` the database itself.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.people import Device, Person, people
from tests.servers import Aldis
from tests.wire import ACCEPTED, RESUMED, Closed, Published, TcpStream, connect, pubrel

WINDOW = 20
"""Messages of one sender that wait for their acknowledgement."""


class Ledger:
    """What all clients have seen. `devices` are told here before they acknowledge, so that a receipt that is true is
    never ahead of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.faults: list[str] = []
        self.acknowledged: dict[tuple[str, str], int] = defaultdict(int)
        """(reader, sender) -> the highest mid that a device of the reader has acknowledged."""

    def fault(self, text: str) -> None:
        with self.lock:
            self.faults.append(text)


class Sender(threading.Thread):
    """Sends numbered messages to every receiver in turn. Bodies count per receiver; ids count over all.

    `answers` holds the mid of every acknowledged message by id; every `repeat`-th is sent once more afterwards.
    """

    def __init__(self, person: Person, to: list[Person], ledger: Ledger, *, qos: int, seq: bool, repeat: int) -> None:
        super().__init__(name=person.user, daemon=True)
        self.person = person
        self.answers: dict[int, int] = {}
        self.documents: dict[int, tuple[Person, dict[str, Any]]] = {}
        self.delivered: dict[str, int] = {}
        self.connections = 0
        self.stopping = threading.Event()
        self._to = itertools.cycle(to)
        self._ledger = ledger
        self._qos = qos
        self._seq = seq
        self._repeat = repeat
        self._counts: dict[str, int] = defaultdict(int)
        self._open: dict[int, None] = {}
        self._device: Device

    @property
    def idle(self) -> bool:
        return not self._open

    def run(self) -> None:
        while not (self.stopping.is_set() and self.idle):
            try:
                self._connection()
            except (Closed, OSError):
                time.sleep(0.05)
            except BaseException as error:
                self._ledger.fault(f"{self.name}: {error!r}")
                return

    def _connection(self) -> None:
        with self.person.online("phone") as self._device:
            self.connections += 1
            self._device.send(*(self._packet(id) for id in self._open))
            while not (self.stopping.is_set() and self.idle):
                if len(self._open) < WINDOW and not self.stopping.is_set():
                    self._device.send(*(self._packet(self._new()) for _ in range(WINDOW - len(self._open))))
                self._read()

    def _new(self) -> int:
        id = len(self.documents) + 1
        to = next(self._to)
        self._counts[to.user] = number = self._counts[to.user] + 1
        self.documents[id] = (to, {"id": id, "body": number} | ({"seq": number} if self._seq else {}))
        self._open[id] = None
        return id

    def _packet(self, id: int) -> bytes:
        to, document = self.documents[id]
        # the packet id is the message id, so that acknowledgements can be told apart
        return self._device.chat_packet(to, document, qos=self._qos, id=id)

    def _read(self) -> None:
        device = self._device
        device.journal.clear()
        try:
            device.read(0.5)
        except TimeoutError:
            return
        for found in device.journal:
            kind, peer = found.topic.split("/")[2:4]
            if kind == "receipt":
                self._receipt(peer, found.document)
        for id in device.acknowledged:
            if id not in self.answers:
                self._ledger.fault(f"{self.name}: {id} is acknowledged before its receipt")
            if self._qos == 2:
                device.send(pubrel(id))
            self._open.pop(id, None)
        device.acknowledged.clear()

    def _receipt(self, peer: str, receipt: dict[str, Any]) -> None:
        if receipt["type"] == "sent":
            id, mid = receipt["id"], receipt["mid"]
            first = self.answers.setdefault(id, mid)
            if first != mid:
                self._ledger.fault(f"{self.name}: {id} was message {first}, and is {mid} now")
            if self._qos == 0:
                self._open.pop(id, None)
            if id % self._repeat == 0 and id in self._open:
                self._device.send(self._packet(id))
        elif receipt["type"] == "delivered":
            mid = receipt["up_to"]
            with self._ledger.lock:
                true = self._ledger.acknowledged[peer, self.person.user]
            if mid > true:
                self._ledger.fault(
                    f"{self.name}: {mid} is called delivered to {peer}, who has acknowledged up to {true}"
                )
            self.delivered[peer] = max(self.delivered.get(peer, 0), mid)
        else:
            self._ledger.fault(f"{self.name}: {receipt}")


class Receiver(threading.Thread):
    """One device. `lives` holds what came on each connection, in order."""

    def __init__(self, person: Person, device: str, ledger: Ledger, *, qos: int, clean: bool) -> None:
        super().__init__(name=f"{person.user}/{device}", daemon=True)
        self.person = person
        self.device = device
        self.lives: list[list[Published]] = []
        self.seen: set[int] = set()
        self.stopping = threading.Event()
        self._ledger = ledger
        self._qos = qos
        self._clean = clean

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._connection()
            except (Closed, OSError):
                time.sleep(0.05)
            except BaseException as error:
                self._ledger.fault(f"{self.name}: {error!r}")
                return

    def _connection(self) -> None:
        with _RecordingDevice(self, self._ledger) as device:
            token = self.person.token(self.device)
            # a restart has forgotten the session: only the first answer byte is the same
            device.connected_anyhow(self.device, user=self.person.user, password=token, clean=self._clean)
            life: list[Published] = []
            self.lives.append(life)
            device.life = life
            device.subscribed((f"inbox/{self.person.user}/chat/+", self._qos))
            while not self.stopping.is_set():
                try:
                    device.read(0.2)
                except TimeoutError:
                    continue


class _RecordingDevice(Device):
    """Writes everything into the ledger before it is acknowledged."""

    def __init__(self, receiver: Receiver, ledger: Ledger) -> None:
        super().__init__(receiver.person, receiver.device, TcpStream(receiver.person.server.mqtt))
        self.life: list[Published] = []
        self._receiver = receiver
        self._ledger = ledger

    def connected_anyhow(self, device: str, **options: Any) -> None:
        self.send(connect(device, **options))
        answer = self.packet()
        assert answer in (ACCEPTED, RESUMED), answer

    def note(self, found: Published) -> None:
        self.life.append(found)
        document = found.document
        peer = found.topic.rsplit("/", 1)[1]
        with self._ledger.lock:
            key = (self.user, peer)
            self._ledger.acknowledged[key] = max(self._ledger.acknowledged[key], document["mid"])
        super().note(found)
        self._receiver.seen.add(document["mid"])
        self.journal.clear()


class Flood:
    """Four senders with one device each, two receivers with two devices each: QoS 0, 1 and 2 both ways, with and
    without seq, clean and persistent."""

    def __init__(self, server: Aldis) -> None:
        self.server = server
        self.ledger = Ledger()
        names = people(server, "zero", "one", "seq", "two", "bob", "carol", friends=False)
        senders, receivers = names[:4], names[4:]
        for sender in senders:
            sender.befriend(*receivers)
        self.senders = [
            Sender(person, receivers, self.ledger, qos=qos, seq=seq, repeat=repeat)
            for person, qos, seq, repeat in zip(
                senders, (0, 1, 1, 2), (False, False, True, True), (7, 5, 11, 13), strict=True
            )
        ]
        self.receivers = [
            Receiver(receivers[0], "phone", self.ledger, qos=1, clean=True),
            Receiver(receivers[0], "tablet", self.ledger, qos=2, clean=False),
            Receiver(receivers[1], "phone", self.ledger, qos=1, clean=False),
            Receiver(receivers[1], "tablet", self.ledger, qos=2, clean=True),
        ]
        for receiver in self.receivers:
            receiver.start()
        self.wait(lambda: all(receiver.lives for receiver in self.receivers), 10)
        for sender in self.senders:
            sender.start()

    def acknowledged(self) -> int:
        return sum(len(sender.answers) for sender in self.senders)

    def wait(self, condition: Any, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert not self.ledger.faults, self.ledger.faults[:5]
            assert time.monotonic() < deadline, self._standing()
            time.sleep(0.01)

    def go_on(self, messages: int, timeout: float = 20) -> None:
        """Until so many more are acknowledged."""
        goal = self.acknowledged() + messages
        self.wait(lambda: self.acknowledged() >= goal, timeout)

    def connections(self) -> list[int]:
        """How many each sender has had."""
        return [sender.connections for sender in self.senders]

    def come_back(self, before: list[int], timeout: float = 20) -> None:
        """Until every sender has a new one."""
        self.wait(lambda: all(now > then for now, then in zip(self.connections(), before, strict=True)), timeout)

    def _standing(self) -> str:
        mids = {mid for sender in self.senders for mid in sender.answers.values()}
        waiting = {sender.name: len(sender.documents) - len(sender.answers) for sender in self.senders}
        return f"open: {waiting}; acknowledged: {len(mids)}; seen: {[len(r.seen) for r in self.receivers]}"

    def finish(self, timeout: float = 30) -> None:
        """Everything said so far is acknowledged, and has reached every device."""
        for sender in self.senders:
            sender.stopping.set()
        for sender in self.senders:
            sender.join(timeout)
            assert not sender.is_alive(), self._standing()
        self.wait(lambda: all(self.mids(receiver) <= receiver.seen for receiver in self.receivers), timeout)

    def end(self) -> None:
        for thread in (*self.senders, *self.receivers):
            thread.stopping.set()
        for thread in self.receivers:
            thread.join(5)

    def mids(self, receiver: Receiver) -> set[int]:
        """Of all messages to this receiver that were acknowledged."""
        user = receiver.person.user
        return {
            mid for sender in self.senders for id, mid in sender.answers.items() if sender.documents[id][0].user == user
        }

    def check(self) -> None:
        assert not self.ledger.faults, self.ledger.faults[:5]
        for sender in self.senders:
            assert sender.answers.keys() == sender.documents.keys()
            assert len(set(sender.answers.values())) == len(sender.answers)
            last = defaultdict(int)
            for id, mid in sender.answers.items():
                last[sender.documents[id][0].user] = max(last[sender.documents[id][0].user], mid)
            for peer, mid in sender.delivered.items():
                assert mid in sender.answers.values() and mid <= last[peer]
        for receiver in self.receivers:
            self._check_receiver(receiver)

    def _check_receiver(self, receiver: Receiver) -> None:
        by_n: dict[int, bytes] = {}
        for life in receiver.lives:
            numbers = [found.document["n"] for found in life]
            # in rising n, without a gap; from the friends' greetings on, everything in this inbox is chat
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, receiver.name
            if numbers and by_n:
                assert numbers[0] <= max(by_n) + 1, f"{receiver.name}: nothing between {max(by_n)} and {numbers[0]}"
            for found in life:
                assert by_n.setdefault(found.document["n"], found.payload) == found.payload
        documents = [Published("", by_n[n]).document for n in sorted(by_n)]
        mids = [one["mid"] for one in documents]
        assert mids == sorted(set(mids)), "mid rises with n"
        assert set(mids) == self.mids(receiver), "everything acknowledged is there, and nothing else"
        place = {mid: index for index, mid in enumerate(mids)}
        for sender in self.senders:
            mine = [
                (place[mid], sender.documents[id][1]["body"])
                for id, mid in sender.answers.items()
                if sender.documents[id][0].user == receiver.person.user
            ]
            bodies = [body for _, body in sorted(mine)]
            assert bodies == list(range(1, len(bodies) + 1)), f"{sender.name} to {receiver.name}: out of order"


@contextmanager
def flooding(server: Aldis) -> Iterator[Flood]:
    flood = Flood(server)
    try:
        yield flood
    finally:
        flood.end()


def check_store(path: Path) -> int:
    """The SQLite file is whole, and so is what `check_tables` looks at. Returns the number of messages."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return check_tables(database.execute)


def check_tables(ask: Callable[[str], Iterable[tuple[Any, ...]]]) -> int:
    """n is gap-free in every inbox and rises with mid, the head is the last n, and every id is there once. Returns the
    number of messages."""
    heads = dict(ask("SELECT user_id, head FROM im_inbox WHERE head > 0"))
    rows: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for user, n, mid in ask("SELECT to_user_id, n, mid FROM im_offline ORDER BY to_user_id, n"):
        rows[user].append((n, mid))
    assert rows.keys() == heads.keys()
    for user, items in rows.items():
        assert [n for n, _ in items] == list(range(1, heads[user] + 1)), f"a gap in the inbox of {user}"
        mids = [mid for _, mid in items]
        assert mids == sorted(mids), f"mid does not rise in the inbox of {user}"
    ids = ask("SELECT sender, device, id, count(*) FROM im_message WHERE id IS NOT NULL GROUP BY sender, device, id")
    assert all(count == 1 for *_, count in ids)
    for sender, highest, count in ask(
        "SELECT sender, seq, (SELECT count(*) FROM im_message AS message WHERE message.sender = sequence.sender "
        "AND message.device = sequence.device AND message.recipient = sequence.recipient) FROM im_sequence AS sequence"
    ):
        assert count == highest, f"{sender} has said {count} messages up to seq {highest}"
    ((total,),) = ask("SELECT count(*) FROM im_message WHERE kind = 1")
    return int(total)
