"""[MQTT-4.6.0-2], [MQTT-4.6.0-3]: acknowledgements leave in the order of the PUBLISHes, whatever is safe first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aldis.broker.core.acks import AckQueue, AckSlot


def wires(count: int) -> list[bytes]:
    return [b"ack %d" % number for number in range(count)]


@given(st.data())
def test_mqtt_4_6_0_2_the_order_is_that_of_the_publishes(data: st.DataObject) -> None:
    """Places taken, joined, settled, settled again and answered at once, in any order and mixture."""
    queue = AckQueue()
    out: list[bytes] = []
    opened: list[tuple[bytes, AckSlot | None]] = []
    unsettled: list[tuple[bytes, AckSlot]] = []
    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["open", "join", "at_once", "settle", "settle", "again"])):
            case "at_once":
                wire = data.draw(st.sampled_from([b"", b"at once %d" % len(opened)]))
                queue.at_once(wire, out)
                opened.append((wire, None))
            case "settle" if unsettled:
                entry = unsettled.pop(data.draw(st.integers(0, len(unsettled) - 1)))
                queue.settle(entry[1], out)
            case "again":
                settled = [slot for _, slot in opened if slot is not None and slot.settled]
                if settled:
                    queue.settle(data.draw(st.sampled_from(settled)), out)
            case way:
                wire = data.draw(st.sampled_from([b"", b"ack %d" % len(opened)]))
                slot = AckSlot(wire)
                if way == "join":
                    queue.join(slot)
                else:
                    slot = queue.open(wire)
                opened.append((wire, slot))
                unsettled.append((wire, slot))
        # what has left is everything before the first place that waits
        done = 0
        while done < len(opened) and ((slot := opened[done][1]) is None or slot.settled):
            done += 1
        assert out == [wire for wire, _ in opened[:done] if wire]
        assert len(queue) == len(opened) - done


@given(st.permutations(range(8)))
def test_every_order_of_settling_gives_the_order_of_opening(order: list[int]) -> None:
    queue = AckQueue()
    out: list[bytes] = []
    slots = [queue.open(wire) for wire in wires(8)]
    for number in order:
        queue.settle(slots[number], out)
    assert out == wires(8)
    assert len(queue) == 0


def test_nothing_leaves_for_a_place_that_is_never_settled() -> None:
    queue = AckQueue()
    out: list[bytes] = []
    queue.open(b"never")
    queue.settle(queue.open(b"later"), out)
    queue.at_once(b"at once", out)
    assert out == []
    assert len(queue) == 3
