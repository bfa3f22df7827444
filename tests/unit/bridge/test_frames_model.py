"""Numbers, holes and repeats, under whatever a link may do: frames are lost, doubled, overtaken, cut, forged, played
again, and both sides begin anew."""

from __future__ import annotations

from typing import NamedTuple

import hypothesis.strategies as st
import msgspec
from hypothesis import event, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aldis.bridge.frames import ALL, REASONS, Seal, TransferFigures
from aldis.bridge.frames_in import Inbound, Taken
from aldis.bridge.frames_out import Outbound
from aldis.broker.cluster_ports import WakeUp

SEAL = Seal(b"key")
HOUR = 3_600_000


def outbound(incarnation: int, **limits: int) -> Outbound:
    return Outbound(
        "a",
        incarnation,
        SEAL,
        TransferFigures(),
        **{"max_frame_size": 1_024, "max_waiting_bytes": 10_000, **limits},
    )


class OnTheWay(NamedTuple):
    number: int
    data: bytes
    carried: list[int]


class Link(RuleBasedStateMachine):
    """One sender "a", one receiver "b", a wire between them on which frames lie in the order of sending."""

    faults = True

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000_000
        self.parcel = 0
        self.pending: list[int] = []
        """Parcels that wait at the sender."""
        self.sent: list[bytes] = []
        self.wire: list[OnTheWay] = []
        self.frames = 0

    @initialize()
    def begin(self) -> None:
        self.out = outbound(self.now)
        self.listen()

    def listen(self) -> None:
        self.receiver = Inbound("b", self.now, SEAL, TransferFigures(), max_age=HOUR)
        self.handed: list[int] = []
        self.knows = False
        """Whether the receiver has heard this process of the sender, or its predecessor."""
        self.unreported: dict[int, int] = {}
        """Parcels that the receiver should have got, has not got and was not told of: by the number of the last frame
        that cannot know of it yet."""

    # What the sender does

    @rule(to_all=st.booleans(), large=st.booleans())
    def add(self, to_all: bool, large: bool) -> None:
        self.parcel += 1
        before = self.out._figures.dropped
        user = "u" * (1_200 if large and self.faults else 3)
        self.out.add(ALL if to_all else "b", WakeUp(user, self.parcel))
        if self.out._figures.dropped == before:
            self.pending.append(self.parcel)
        else:
            self.lose([self.parcel], self.frames)

    @rule()
    def send_to_another(self) -> None:
        self.out.add("c", WakeUp("other", 0))

    @rule()
    def flush(self) -> None:
        while (frame := self.out.next(self.now)) is not None:
            self.put(frame)
        self.pending = []

    @rule()
    def beat(self) -> None:
        self.put((ALL, self.out.beat(0.0, self.now)))

    @precondition(lambda self: self.faults)
    @rule()
    def give_up(self) -> None:
        self.out.drop_waiting()
        self.lose(self.pending, self.frames)
        self.pending = []

    def put(self, frame: tuple[str, bytes]) -> None:
        if frame[0] in (ALL, "b"):
            opened = SEAL.opened(frame[1])
            assert not isinstance(opened, str)
            carried = [parcel.head for parcel in opened.parcels if isinstance(parcel, WakeUp)]
            self.frames += 1
            self.wire.append(OnTheWay(self.frames, frame[1], carried))
            self.sent.append(frame[1])

    def lose(self, parcels: list[int], known_after: int) -> None:
        """They will never arrive; the receiver must hear so with the next frame, if it knew the sender by then."""
        if self.knows:
            self.unreported.update(dict.fromkeys(parcels, known_after))

    # What the link does

    @precondition(lambda self: self.wire)
    @rule()
    def deliver(self) -> None:
        self.hand(self.wire.pop(0))

    @precondition(lambda self: self.wire)
    @rule()
    def deliver_everything(self) -> None:
        while self.wire:
            self.deliver()

    @precondition(lambda self: self.faults and self.wire)
    @rule()
    def lose_one(self) -> None:
        frame = self.wire.pop(0)
        self.lose(frame.carried, frame.number)

    @precondition(lambda self: self.faults and len(self.wire) > 1)
    @rule(data=st.data())
    def overtake(self, data: st.DataObject) -> None:
        """A later frame comes first: what it has overtaken counts as lost."""
        place = data.draw(st.integers(1, len(self.wire) - 1))
        late = self.wire[:place]
        frame = self.wire.pop(place)
        for old in late:
            self.lose(old.carried, old.number)
        self.hand(frame)
        for old in late:
            self.wire.pop(0)
            self.must_refuse(old.data)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        """Anything that has been delivered, once more. First the receiver is made to know the newest: who has
        only just begun to listen cannot tell."""
        self.deliver_everything()
        self.beat()
        self.deliver_everything()
        self.must_refuse(data.draw(st.sampled_from(self.sent)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), cut=st.booleans())
    def forge(self, data: st.DataObject, cut: bool) -> None:
        whole = data.draw(st.sampled_from(self.sent[-5:]))
        place = data.draw(st.integers(0, len(whole) - 1))
        self.must_refuse(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])

    def must_refuse(self, data: bytes) -> None:
        assert self.receiver.take(data, self.now, 0.0) in REASONS

    def hand(self, frame: OnTheWay) -> None:
        taken = self.receiver.take(frame.data, self.now, 0.0)
        assert isinstance(taken, Taken)
        assert self.faults or not taken.missed, "a clean link misses nothing"
        if taken.missed or taken.joined:
            self.unreported.clear()
        assert not any(frame.number > last for last in self.unreported.values()), "lost, and nobody said so"
        assert [parcel.head for parcel in taken.parcels if isinstance(parcel, WakeUp)] == frame.carried
        self.handed += frame.carried
        self.knows = True

    # Both begin anew

    @rule()
    def sender_restarts(self) -> None:
        self.lose(self.pending, self.frames)
        self.pending = []
        for frame in self.wire:
            self.lose(frame.carried, frame.number)
        self.wire.clear()
        self.now += 1
        self.out = outbound(self.now)
        # what the old process lost at its end is answered by `joined`
        self.beat()
        event("sender restarted")

    @rule()
    def receiver_restarts(self) -> None:
        self.listen()
        event("receiver restarted")

    @invariant()
    def in_order_and_once(self) -> None:
        if hasattr(self, "handed"):
            assert self.handed == sorted(set(self.handed))


Link.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLink = Link.TestCase


class CleanLink(Link):
    """The same without faults, though both sides may begin anew: nothing is ever called missed."""

    faults = False


CleanLink.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestCleanLink = CleanLink.TestCase


@given(st.binary(max_size=200))
def test_no_bytes_raise_or_come_through(data: bytes) -> None:
    receiver = Inbound("b", 1, SEAL, TransferFigures(), max_age=HOUR)
    assert receiver.take(data, 0, 0.0) in ("digest", "version")


@given(st.binary(max_size=200))
def test_no_sealed_bytes_raise_either(body: bytes) -> None:
    """Whoever has the key may still be another program."""
    sealed = b"\x01" + SEAL._digest(body) + body
    receiver = Inbound("b", 1, SEAL, TransferFigures(), max_age=HOUR)
    assert isinstance(receiver.take(sealed, 0, 0.0), Taken | str)


json_like = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5) | st.binary(max_size=5) | st.just("b"),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(st.lists(json_like, max_size=9))
def test_no_sealed_values_raise_either(values: list[object]) -> None:
    body = msgspec.msgpack.encode(values)
    receiver = Inbound("b", 1, SEAL, TransferFigures(), max_age=HOUR)
    assert isinstance(receiver.take(b"\x01" + SEAL._digest(body) + body, 0, 0.0), Taken | str)
