"""What must be true of receipts. Pure: a view in, one sentence for each violation out."""

from __future__ import annotations

from collections import defaultdict

from tests.faults.history import Event, What
from tests.faults.view import NEVER, Confirmed, View


def one_result_per_id(view: View) -> list[str]:
    """An id has one mid for ever, a mid one id; what was answered with `sent` is not refused later."""
    problems = []
    mids: dict[tuple[str, str, object], int] = {}
    ids: dict[int, tuple[str, str, object]] = {}
    for event in view.of(What.RECEIPT):
        if event.kind != "sent" or event.id is None:
            continue
        key = event.user, event.device, event.id
        if mids.setdefault(key, event.mid) != event.mid:
            problems.append(f"{event.user}/{event.device}: id {event.id!r} is mid {mids[key]}, and then {event.mid}")
        if ids.setdefault(event.mid, key) != key:
            problems.append(f"mid {event.mid} was given to {ids[event.mid]} and to {key}")
    problems += [
        f"{send} was answered with sent, mid {send.mid}, and then refused: {send.failed}"
        for send in view.sends.values()
        if send.mid is not None and send.failed
    ]
    for player in view.players.values():
        for item in player.got:
            send = view.sends.get(item.token)
            if send is not None and send.event.id is not None and send.mid not in (None, item.mid):
                problems.append(f"{send} is mid {send.mid} for its sender and mid {item.mid} on {player}")
    return problems


def answered_before_acknowledged(view: View) -> list[str]:
    """A PUBACK comes after the receipt `sent` or `failed` of the same message, on the same connection.

    Not where it was published on an earlier one: paho sends again before it subscribes, so no receipt can come."""
    problems = []
    answers: dict[tuple[str, str, object], set[int]] = defaultdict(set)
    for event in view.of(What.RECEIPT, What.ACKNOWLEDGED):
        if event.what is What.RECEIPT:
            if event.kind in ("sent", "failed") and event.id is not None:
                answers[event.user, event.device, event.id].add(event.conn)
            continue
        send = view.sends.get(event.token)
        # at QoS 2 the PUBREC may have come on an earlier connection, and only PUBCOMP on this one
        if send is None or send.event.id is None or send.event.qos != 1 or send.event.conn != event.conn:
            continue
        if event.conn not in answers[event.user, event.device, send.event.id]:
            problems.append(f"{send} is acknowledged on connection {event.conn} without an answer")
    return problems


def delivered_is_true(view: View) -> list[str]:
    """`delivered` up to a mid only after some device of the recipient was about to acknowledge that message, and all
    before it."""
    problems = []
    confirmed = Confirmed(view)
    for event in view.events:
        confirmed.see(event)
        if event.what is What.RECEIPT and event.kind == "delivered":
            done = confirmed.up_to.get((event.peer, event.user), 0)
            if event.up_to > done:
                problems.append(
                    f"{event.user}/{event.device}: delivered to {event.peer} up to {event.up_to} at {event.t:.3f}, "
                    f"but its devices have taken only up to {done}"
                )
    return problems


def read_is_true(view: View) -> list[str]:
    """`read` up to a mid only after the app of the recipient was about to say so."""
    problems = []
    said: dict[tuple[str, str], int] = defaultdict(int)
    for event in view.of(What.FLOOR, What.READING, What.RECEIPT):
        key = event.user, event.peer
        if event.what is What.READING or (event.what is What.FLOOR and event.kind == "read"):
            said[key] = max(said[key], event.up_to)
        elif event.what is What.RECEIPT and event.kind == "read" and event.up_to > said[event.peer, event.user]:
            problems.append(
                f"{event.user}/{event.device}: read by {event.peer} up to {event.up_to} at {event.t:.3f}, "
                f"but its app has said {said[event.peer, event.user]}"
            )
    return problems


def sent_comes_first(view: View) -> list[str]:
    """On the connection on which a message was first published, neither delivered nor read covers it before `sent`.

    If that connection ends, `sent` may be lost with it, and the next one tells the state of the receipts first."""
    problems = []
    covered: dict[tuple[int, str], Event] = {}
    first = {
        (send.event.user, send.event.device, send.event.id): send
        for send in view.sends.values()
        if send.event.id is not None
    }
    told: set[tuple[str, str, object]] = set()
    for event in view.of(What.RECEIPT):
        if event.kind in ("delivered", "read"):
            key = event.conn, event.peer
            if key not in covered or covered[key].up_to < event.up_to:
                covered[key] = event
        elif event.kind == "sent":
            name = event.user, event.device, event.id
            send = first.get(name)
            if send is None or name in told or send.event.conn != event.conn:
                continue
            told.add(name)
            before = covered.get((event.conn, event.peer))
            if before is not None and before.up_to >= event.mid:
                problems.append(f"{send}: {before.kind} up to {before.up_to} came before sent, mid {event.mid}")
    return problems


def receipts_never_fall(view: View) -> list[str]:
    """On one connection, delivered and read of one peer only rise."""
    problems = []
    highest: dict[tuple[str, str, int, str, str], int] = defaultdict(int)
    for event in view.of(What.RECEIPT):
        if event.kind in ("delivered", "read"):
            key = event.user, event.device, event.conn, event.peer, event.kind
            if event.up_to < highest[key]:
                problems.append(
                    f"{event.user}/{event.device}: {event.kind} by {event.peer} fell from {highest[key]} to "
                    f"{event.up_to} on connection {event.conn}"
                )
            highest[key] = max(highest[key], event.up_to)
    return problems


def receipts_arrive(view: View) -> list[str]:
    """In the end every lasting device of a sender knows how far each recipient has come, delivered and read."""
    wanted: dict[tuple[str, str, str], int] = {}
    for (reader, peer), mid in view.strongest.items():
        if mid and any(item.mid == mid for player in view.devices_of(reader) for item in player.numbers.values()):
            wanted[reader, peer, "delivered"] = mid
    for event in view.of(What.HAS_READ):
        key = event.user, event.peer, "read"
        wanted[key] = max(wanted.get(key, 0), event.up_to)
    told: dict[tuple[str, str, str, str], int] = defaultdict(int)
    for event in view.of(What.RECEIPT):
        if event.kind in ("delivered", "read"):
            known = event.user, event.device, event.peer, event.kind
            told[known] = max(told[known], event.up_to)
    return [
        f"{player} was told {kind} by {reader} up to {told[player.user, player.device, reader, kind]}, not {mid}"
        for (reader, peer, kind), mid in sorted(wanted.items())
        for player in view.devices_of(peer)
        if (reader, peer) not in view.forbidding  # a block ends receipts, too
        and player.gone == NEVER
        and told[player.user, player.device, reader, kind] < mid
    ]
