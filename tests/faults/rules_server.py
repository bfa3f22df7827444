"""What must be true of the servers themselves: the store's rows, epochs, and what each process holds. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tests.faults.history import What
from tests.faults.view import NEVER, View

MEMORY_GROWTH = 1.3
MEMORY_ALLOWANCE = 24 * 2**20
"""Bytes on top of that. Caches that are bounded fill up during the first rounds; a leak does not stop at this."""
DESCRIPTOR_ALLOWANCE = 24
"""Two pools to the database of ten connections each fill only when they are needed, and so do a few to Redis."""
TASK_ALLOWANCE = 8


def epochs_never_fall(view: View) -> list[str]:
    """The fencing token of a device only rises, whatever becomes of nodes, Redis and the database."""
    problems = []
    highest: dict[tuple[str, str], int] = defaultdict(int)
    for sample in view.of(What.EPOCHS):
        for user, devices in sample.data.items():
            for device, epoch in devices.items():
                if epoch < highest[user, device]:
                    problems.append(
                        f"the epoch of {user}/{device} fell from {highest[user, device]} to {epoch} ({sample.t:.3f})"
                    )
                highest[user, device] = max(highest[user, device], epoch)
    return problems


def store_and_wire_agree(view: View) -> list[str]:
    """Every inbox is gap-free; what devices got is what its rows say; every answered message is there once, under the
    mid that its sender was told; every cursor has reached the head."""
    problems = []
    for store in view.of(What.STORE):
        problems += _inboxes(view, store.data)
        problems += _messages(view, store.data)
        problems += _cursors(view, store.data)
        problems += _receipts(view, store.data)
    return problems


def _inboxes(view: View, data: dict[str, Any]) -> list[str]:
    """`inboxes`: {user: [base, head, [mid of base + 1, …]]}."""
    problems = []
    for user, (base, head, mids) in data["inboxes"].items():
        if len(mids) != head - base:
            problems.append(f"the inbox of {user} has {len(mids)} items from n {base + 1} to its head {head}")
            continue
        for run in _runs(view, data, mids):
            if run != sorted(set(run)):
                problems.append(f"mids do not rise with n in the inbox of {user}")
                break
        for player in view.devices_of(user):
            for n, event in player.numbers.items():
                if base < n and (n > head or mids[n - base - 1] != event.mid):
                    stored = mids[n - base - 1] if n <= head else "nothing"
                    problems.append(f"{player} got mid {event.mid} as n {n}, the store has {stored}")
            first = player.standing if player.standing is not None else min(player.numbers, default=head + 1) - 1
            wanted = range(max(base, first), head)
            missing = [n + 1 for n in wanted if n + 1 not in player.numbers and n + 1 not in player.own]
            if player.qos and player.gone == NEVER and missing:
                problems.append(f"{player} has never got n {missing[0]} of {head} (and {len(missing) - 1} more)")
    return problems


def _runs(view: View, data: dict[str, Any], mids: list[int]) -> list[list[int]]:
    """The mids of an inbox that must rise: all of them; with a journal, those from each sender to each recipient."""
    if not any(run.data.get("mids_by_pair") for run in view.of(What.RUN)):
        return [mids]
    pairs = {mid: (sender, recipient) for mid, sender, _, _, recipient, _ in data["messages"]}
    runs: dict[tuple[str, str], list[int]] = defaultdict(list)
    for mid in mids:
        runs[pairs.get(mid, ("", ""))].append(mid)
    return list(runs.values())


def _messages(view: View, data: dict[str, Any]) -> list[str]:
    """`messages`: [mid, sender, device, id, recipient, token]."""
    problems = []
    found: dict[str, list[int]] = defaultdict(list)
    for mid, sender, device, _, recipient, token in data["messages"]:
        found[token].append(mid)
        send = view.sends.get(token)
        if send is None:
            problems.append(f"the store has mid {mid} from {sender}/{device}, {token!r}, which nobody sent")
        elif (sender, device, recipient) != (*send.sender, send.event.to):
            problems.append(f"the store has {send} from {sender}/{device} to {recipient}")
    for send in view.sends.values():
        mids = found.get(send.token, [])
        if send.answered and view.welcome(send) and not mids:
            problems.append(f"{send} was answered and is not in the store")
        if send.event.id is not None and len(mids) > 1:
            problems.append(f"{send} is in the store as {mids}")
        if send.mid is not None and send.mid not in mids:
            problems.append(f"{send} was answered with mid {send.mid}, the store has {mids}")
        if send.failed and mids and send.mid is None:
            problems.append(f"{send} was refused ({send.failed}) and is in the store as {mids}")
    return problems


def _cursors(view: View, data: dict[str, Any]) -> list[str]:
    """`cursors`: {user: {device: cursor}}."""
    problems = []
    for player in view.players.values():
        if player.gone != NEVER or not player.qos or player.user not in data["inboxes"]:
            continue
        head = data["inboxes"][player.user][1]
        cursor = data["cursors"].get(player.user, {}).get(player.device)
        if cursor != head:
            problems.append(f"the cursor of {player} is {cursor}, the head of the inbox {head}")
    return problems


def _receipts(view: View, data: dict[str, Any]) -> list[str]:
    """`receipts`: [reader, peer, delivered, read]: never beyond what devices have taken, or apps have said."""
    problems = []
    said: dict[tuple[str, str], int] = defaultdict(int)
    for event in view.of(What.READING, What.FLOOR):
        if event.what is What.READING or event.kind == "read":
            said[event.user, event.peer] = max(said[event.user, event.peer], event.up_to)
    for reader, peer, delivered, read in data["receipts"]:
        taken = view.strongest.get((reader, peer), 0)
        if delivered > taken:
            problems.append(f"the store says delivered to {reader} from {peer}: {delivered}; taken were {taken}")
        if read > said[reader, peer]:
            problems.append(f"the store says read by {reader} from {peer}: {read}; said was {said[reader, peer]}")
    return problems


def nothing_is_left_behind(view: View) -> list[str]:
    """Memory, descriptors and tasks of a process, at rest and with the same clients, are what they were when it was
    first at rest."""
    problems = []
    first: dict[tuple[str, int], dict[str, float]] = {}
    for sample in view.of(What.RESOURCES):
        now = sample.data
        base = first.setdefault((sample.node, int(now["pid"])), now)
        limits = {
            "rss": max(base["rss"] * MEMORY_GROWTH, base["rss"] + MEMORY_ALLOWANCE),
            "descriptors": base["descriptors"] + DESCRIPTOR_ALLOWANCE,
            "tasks": base["tasks"] + TASK_ALLOWANCE,
        }
        problems += [
            f"{sample.node} (process {now['pid']:.0f}): {what} {now[what]:.0f} at rest, {base[what]:.0f} before"
            for what, limit in limits.items()
            if now[what] > limit
        ]
    return problems
