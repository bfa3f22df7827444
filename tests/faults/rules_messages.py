"""What must be true of the messages that came, whatever was done to the servers. Pure: a view in, sentences out.

A rule gives one sentence for each violation, none if all is well.
"""

from __future__ import annotations

from collections import defaultdict

from tests.faults.history import Event, What
from tests.faults.view import NEVER, Send, View


def everything_arrives(view: View) -> list[str]:
    """What was acknowledged, or answered with `sent`, is on every device of its recipient."""
    return [
        f"{player} has never got {send}, acknowledged at {send.acknowledged or 0:.3f}"
        for send in view.sends.values()
        if send.answered and (view.welcome(send) or send.mid is not None)
        for player in view.obliged(send)
        if send.token not in player.tokens
    ]


def copies_arrive(view: View) -> list[str]:
    """… and a copy of it on every other device of its sender."""
    return [
        f"{player} has never got a copy of {send}"
        for send in view.sends.values()
        if send.answered and (view.welcome(send) or send.mid is not None)
        for player in view.copied(send)
        if send.token not in player.tokens
    ]


def everywhere_or_nowhere(view: View) -> list[str]:
    """What was never answered is on all devices that must have it if it is stored, or on none at all."""
    problems = []
    for send in view.sends.values():
        if send.answered or send.failed:
            continue
        obliged = [*view.obliged(send), *view.copied(send)]
        everyone = [player for user in {*send.pair} for player in view.devices_of(user)]
        missing = [player for player in obliged if send.token not in player.tokens]
        have = [player for player in everyone if send.token in player.tokens]
        if have and missing:
            problems.append(f"{send}, never answered, is on {have[0]} and not on {missing[0]}")
    return problems


def no_holes(view: View) -> list[str]:
    """On each device n rises by one, repeats of an n aside. At QoS 0 it may leave out, but never comes late."""
    problems = []
    for player in view.players.values():
        highest = player.standing
        seen: set[int] = set()
        for event in player.got:
            if event.n in seen or (player.standing is not None and event.n <= player.standing):
                continue
            seen.add(event.n)
            if highest is not None and event.n < highest:
                problems.append(f"{player}: n {event.n} came for the first time after n {highest} ({event.t:.3f})")
            elif highest is not None and player.qos and not player.own >= set(range(highest + 1, event.n)):
                problems.append(f"{player}: something is missing between n {highest} and n {event.n} ({event.t:.3f})")
            highest = event.n if highest is None else max(highest, event.n)
    return problems


def once(view: View) -> list[str]:
    """No message has two numbers in one inbox, and nothing that its sender gave an id has two mids."""
    problems = []
    numbers: dict[tuple[str, int], int] = {}
    mids: dict[tuple[str, object], int] = {}
    for player in view.players.values():
        for event in player.got:
            first = numbers.setdefault((player.user, event.mid), event.n)
            if first != event.n:
                problems.append(f"{player}: mid {event.mid} is n {first} and n {event.n}")
            send = view.sends.get(event.token)
            if send is not None and send.event.id is not None:
                known = mids.setdefault((event.token, send.event.id), event.mid)
                if known != event.mid:
                    problems.append(f"{player}: {send} is mid {known} and mid {event.mid}")
    return problems


def one_item_per_number(view: View) -> list[str]:
    """(inbox, n) names one item over all devices, nodes and repeats."""
    problems = []
    items: dict[tuple[str, int], Event] = {}
    for player in view.players.values():
        for event in player.got:
            first = items.setdefault((player.user, event.n), event)
            if _item(first) != _item(event):
                problems.append(f"{player}: n {event.n} is {_item(event)}, but {_item(first)} on {first.device}")
    return problems


def _item(event: Event) -> tuple[object, ...]:
    return event.mid, event.kind, event.peer, event.token, event.sum


def in_order(view: View) -> list[str]:
    """What one device sent to one user comes in the order sent. A message without id may be stored once more after a
    lost connection; then its first copy counts, which a device at QoS 0 may have missed. At QoS 0 nothing is sent
    again, so what is still on its way on a connection that has broken may come after what is sent on the next one."""
    problems = []
    for player in view.players.values():
        last: dict[tuple[str | int, ...], int] = defaultdict(int)
        seen: set[str] = set()
        for event in sorted(player.numbers.values(), key=lambda event: event.n):
            send = view.sends.get(event.token)
            if send is None or event.token in seen or event.mid != view.firsts[event.token]:
                continue
            seen.add(event.token)
            key = (event.kind, *send.sender, send.event.to, send.event.conn if send.event.qos == 0 else 0)
            if send.number < last[key]:
                problems.append(f"{player}: {send.token} comes as n {event.n}, after #{last[key]}")
            last[key] = max(last[key], send.number)
    return problems


def nobody_else(view: View) -> list[str]:
    """What comes is for this user, from whom it says, and between friends; a copy is for the sender's other devices."""
    problems = []
    for player in view.players.values():
        for event in player.got:
            send = view.sends.get(event.token)
            if event.to != player.user:
                problems.append(f"{player} got something on the topic of {event.to}")
            elif send is None:
                continue
            elif event.kind == "chat" and send.pair != (event.peer, player.user):
                problems.append(f"{player} got {send} as if from {event.peer}")
            elif event.kind == "sync" and send.sender != (player.user, event.note):
                problems.append(f"{player} got a copy of {send}, sent on {event.note!r}")
            elif event.kind == "sync" and event.note == player.device:
                problems.append(f"{player} got a copy of its own {send}")
            elif frozenset(send.pair) not in view.friends and send.event.user != send.event.to:
                problems.append(f"{player} got {send}, and they are no friends")
    return problems


def unaltered(view: View) -> list[str]:
    """What comes is what was sent, and nothing that nobody sent."""
    problems = []
    for player in view.players.values():
        for event in player.got:
            if event.kind == "system" or (player.standing is not None and event.n <= player.standing):
                continue
            send = view.sends.get(event.token)
            if send is None:
                problems.append(f"{player}: n {event.n} ({event.kind} of {event.peer}): {event.token!r} was never sent")
            elif send.event.sum != event.sum:
                problems.append(f"{player}: {send} has come with other contents")
    return problems


def nothing_after_forbidden(view: View) -> list[str]:
    """What is published after a block or the end of a friendship was confirmed arrives nowhere."""
    problems = []
    for send in view.sends.values():
        since = view.forbidden.get(send.pair, NEVER) + view.allowance["block"]
        if send.event.t <= since:
            continue
        problems += [
            f"{player} got {send}, {send.event.t - since:.3f} s too late"
            for user in send.pair
            for player in view.devices_of(user)
            if send.token in player.tokens
        ]
    return problems


def nothing_after_a_kick(view: View) -> list[str]:
    """Nothing comes to a device that was revoked, and it does not connect again."""
    problems = []
    for kicked in view.of(What.KICKED):
        late = kicked.t + view.allowance["kick"]
        player = view.players[kicked.user, kicked.device]
        problems += [
            f"{player} got n {event.n} {event.t - kicked.t:.3f} s after the kick"
            for event in player.got
            if event.t > late
        ]
        problems += [
            f"{player} is connected to {event.node} {event.t - kicked.t:.3f} s after the kick"
            for event in view.of(What.CONNECTED)
            if (event.user, event.device) == (player.user, player.device) and event.t > late
        ]
    return problems


def one_owner(view: View) -> list[str]:
    """Once a device is attached on a newer connection, the older one gets no items any more."""
    problems = []
    attached: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in view.events:
        where = event.user, event.device
        if event.what is What.SUBSCRIBED:
            attached[where].append(event)
        elif event.what is What.GOT:
            newer = [one for one in attached[where] if one.conn > event.conn]
            if newer and event.t > newer[0].t + view.allowance["owner"]:
                problems.append(
                    f"{event.user}/{event.device}: n {event.n} came on connection {event.conn}, "
                    f"{event.t - newer[0].t:.3f} s after {newer[0].conn} was attached"
                )
    return problems


def refusals_are_just(view: View) -> list[str]:
    """A friend's message is never refused; a stranger's never answered with `sent`."""
    problems = []
    for send in view.sends.values():
        if send.failed and view.welcome(send):
            problems.append(f"{send} was refused: {send.failed}")
        strangers = frozenset(send.pair) not in view.friends and send.event.user != send.event.to
        if send.mid is not None and (strangers or _too_late(view, send)):
            problems.append(f"{send} was answered with sent, mid {send.mid}, and they are no friends")
    return problems


def _too_late(view: View, send: Send) -> bool:
    return send.event.t > view.forbidden.get(send.pair, NEVER) + view.allowance["block"]


def comes_to_rest(view: View) -> list[str]:
    """In the end everybody is there, everything is answered, and nothing moves any more."""
    ends = list(view.of(What.END))
    if not ends:
        return ["the history has no end"]
    return [f"not at rest: {end.note}" for end in ends if end.note]
