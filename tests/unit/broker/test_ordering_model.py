"""A sender that obeys the standard, a store that goes away, a link that breaks: promises 1, 2 and 3 in the end.

The messages have an id and a `seq`; they are sent in any order, some of them twice, at QoS 1 and 2. Each
acknowledgement must follow a receipt, and a receipt `sent` must be true. Whatever has happened, the recipient has every
message once and in order of `seq` after the sender has sent again what was not answered with `sent`.
"""

from __future__ import annotations

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from aldis.bridge.memory import MemoryStore
from aldis.config.settings import Limits, Timeouts
from tests import wire
from tests.unit.broker.chat import Chat, Person, chatting

TIMEOUTS = Timeouts(hold_back=60, commit_retry=0.001, collect_acknowledgements=0.001)
LIMITS = Limits(max_hold_back=4, max_inflight=50)
steps = st.lists(
    st.tuples(
        st.sampled_from(["next", "next", "next", "ahead", "again", "reconnect", "vanish", "down", "up", "reads"]),
        st.integers(0, 20),
    ),
    min_size=3,
    max_size=25,
)


class Sender:
    """Ann's phone, with a persistent session."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.count = 0
        self.sent: set[int] = set()
        self.refused: set[int] = set()
        self.spoken_of: set[int] = set()
        self.busy: dict[int, tuple[int, int, str]] = {}  # packet id -> seq, QoS, waits for
        self.line: Person

    async def connect(self, *, first: bool = False) -> None:
        self.chat.store.reads_fail = False  # else CONNECT is answered with "unavailable"
        self.line = Person(*await self.chat.open())
        self.chat.clients.append(self.line)
        self.line.user = "ann"
        await self.line.connected("phone", answer=wire.ACCEPTED if first else wire.RESUMED, user="ann", clean=False)
        if first:
            await self.line.subscribed(("inbox/ann/#", 0))
        for id, (seq, qos, waits) in sorted(self.busy.items()):
            if waits == "pubcomp":
                self.line.send(wire.pubrel(id))
            else:
                self.publish(seq, qos, id, dup=True)

    def publish(self, seq: int, qos: int, id: int, *, dup: bool = False) -> None:
        self.refused.discard(seq)
        self.busy[id] = seq, qos, "puback" if qos == 1 else "pubrec"
        self.line.say("ben", {"id": f"m{seq}", "seq": seq, "body": seq}, id=id, qos=qos, dup=dup)

    def fresh(self, seq: int, qos: int) -> None:
        self.publish(seq, qos, next(id for id in range(1, 100) if id not in self.busy))

    async def listen(self) -> None:
        """Takes what has come, and answers it."""
        for packet in await self.line.settled():
            if wire.is_publish(packet):
                await self.receipt(json.loads(wire.published(packet).payload))
                continue
            id = int.from_bytes(packet[2:], "big")
            seq, qos, waits = self.busy[id]
            assert {0x40: "puback", 0x50: "pubrec", 0x70: "pubcomp"}[packet[0]] == waits
            assert seq in self.spoken_of, "acknowledged without a word"
            if waits == "pubrec":
                self.busy[id] = seq, qos, "pubcomp"
                self.line.send(wire.pubrel(id))
            else:
                del self.busy[id]

    async def receipt(self, document: dict[str, object]) -> None:
        if document["type"] not in ("sent", "failed"):
            return
        seq = int(str(document["seq"]))
        self.spoken_of.add(seq)
        if document["type"] == "sent":
            found = await MemoryStore.find(self.chat.store, "ann", "phone", f'"m{seq}"')
            assert found is not None, "sent, but not committed"
            self.sent.add(seq)
        else:
            assert document["reason"] == "hold_back_full"
            self.refused.add(seq)

    async def step(self, kind: str, number: int) -> None:
        qos = 1 + number % 2
        match kind:
            case "next" | "ahead":
                self.count += 1
                if kind == "ahead":  # leaves one out, which comes later
                    self.count += 1
                self.fresh(self.count, qos)
            case "again" if self.count:
                self.fresh(1 + number % self.count, qos)
            case "reconnect" | "vanish":
                if kind == "vanish":
                    self.line.close()
                await self.connect()
            case "down":
                self.chat.store.break_down()
            case "up":
                self.chat.store.repair()
            case "reads":
                self.chat.store.reads_fail = not self.chat.store.reads_fail
        if number % 3:
            await self.listen()

    async def finish(self) -> None:
        """The store is back, the link is good: sends what is missing, in order, until all of it is there."""
        self.chat.store.repair()
        self.chat.store.reads_fail = False
        async with asyncio.timeout(10):
            while missing := [seq for seq in range(1, self.count + 1) if seq not in self.sent]:
                # A refusal is told at once, its acknowledgement waits for its turn: who waited for that, too, would
                # wait for the gap that only he can fill.
                waiting = {seq for seq, _, _ in self.busy.values()} - self.refused
                for seq in missing[: LIMITS.max_hold_back]:
                    if seq not in waiting:
                        self.fresh(seq, 1)
                await asyncio.sleep(0.002)
                await self.listen()
            while self.busy:
                await asyncio.sleep(0.002)
                await self.listen()


async def play(script: list[tuple[str, int]]) -> None:
    async with chatting(("ann", "ben"), limits=LIMITS, timeouts=TIMEOUTS) as chat:
        ben = await chat.person("ben")
        sender = Sender(chat)
        await sender.connect(first=True)
        for kind, number in script:
            await sender.step(kind, number)
        await sender.finish()
        found = await ben.heard(sender.count)
        assert [one["body"] for one in found] == list(range(1, sender.count + 1))
        assert [one["n"] for one in found] == list(range(1, sender.count + 1))
        await ben.nothing()
        sender.line.send(wire.DISCONNECT)
        await sender.line.closed()
        assert not chat.plugin("Ordering")._streams
        assert chat.writer.pending == 0


@settings(max_examples=50, deadline=None)
@given(steps)
def test_whatever_happens_every_message_is_committed_once_and_in_order(script: list[tuple[str, int]]) -> None:
    asyncio.run(play(script))
