"""What the database has in its rows, as the rules want it; asked as the administrator, past every proxy."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any

Ask = Callable[[str], Iterable[tuple[Any, ...]]]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def epochs(ask: Ask) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for user, device, epoch in ask("SELECT user_id, device_id, epoch FROM im_device"):
        found[_text(user)][_text(device)] = epoch
    return found


def heads(ask: Ask) -> dict[str, int]:
    return {_text(user): head for user, head in ask("SELECT user_id, head FROM im_inbox WHERE head > 0")}


def cursors(ask: Ask) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for user, device, cursor in ask("SELECT user_id, device_id, inbox_cursor FROM im_device"):
        found[_text(user)][_text(device)] = cursor
    return found


def rows(ask: Ask, users: Collection[str], base: dict[str, int], newest: int) -> dict[str, Any]:
    """Of these users, everything that came after `base` (user -> head) and after the mid `newest`. Shapes: see
    `rules_server`."""
    inboxes: dict[str, Any] = {}
    for user, head in heads(ask).items():
        if user not in users:
            continue
        since = base.get(user, 0)
        # a name is of [A-Za-z0-9_.-], so it cannot end its quotes
        mids = ask(f"SELECT mid FROM im_offline WHERE to_user_id = '{user}' AND n > {since} ORDER BY n")
        inboxes[user] = [since, head, [mid for (mid,) in mids]]
    messages = []
    for mid, sender, device, id, recipient, content in ask(
        f"SELECT mid, sender, device, id, recipient, content FROM im_message WHERE kind = 1 AND mid > {newest}"
    ):
        token = json.loads(content).get("body")
        messages.append([mid, _text(sender), _text(device), _text(id), _text(recipient), token])
    receipts = [
        [_text(reader), _text(peer), delivered, read]
        for reader, peer, delivered, read in ask("SELECT reader, peer, delivered_mid, read_mid FROM im_receipt")
        if _text(reader) in users
    ]
    return {"inboxes": inboxes, "messages": messages, "cursors": cursors(ask), "receipts": receipts}


def newest_mid(ask: Ask) -> int:
    ((mid,),) = ask("SELECT COALESCE(MAX(mid), 0) FROM im_message")
    return int(mid)
