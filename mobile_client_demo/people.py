"""The REST calls of an app with a screen: who wants to be a friend, what was said before, which devices there are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from aldis.mobile_client_demo.rest import Garbled, Login, Rest
from aldis.mobile_client_demo.wire import LARGEST, Item


@dataclass(frozen=True, slots=True)
class Requests:
    """Names by user id: who has asked, and who was asked."""

    incoming: dict[str, str]
    outgoing: dict[str, str]


@dataclass(frozen=True, slots=True)
class Device:
    device: str
    name: str
    last_seen: int
    """Milliseconds, 0 before the first connection."""
    logged_in: bool
    tokens: int
    current: bool


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the history, oldest first. `before` is where the next one begins, 0 where there is none."""

    items: list[Item]
    before: int


def requests(rest: Rest, login: Login) -> Requests:
    found = Requests({}, {})
    path: object = "/v1/friend-requests"
    while isinstance(path, str) and path.startswith("/v1/friend-requests"):
        answer = rest.call("GET", path, None, login)
        found.incoming.update((_text(row, "from"), str(row.get("name") or "")) for row in _rows(answer, "incoming"))
        found.outgoing.update((_text(row, "to"), str(row.get("name") or "")) for row in _rows(answer, "outgoing"))
        path = answer.get("next")
    return found


def decline(rest: Rest, login: Login, asking: str) -> None:
    rest.call("POST", f"/v1/friend-requests/{quote(asking, safe='')}/decline", None, login)


def remove_friend(rest: Rest, login: Login, friend: str) -> None:
    rest.call("DELETE", f"/v1/friends/{quote(friend, safe='')}", None, login)


def block(rest: Rest, login: Login, user: str) -> None:
    rest.call("PUT", f"/v1/blocks/{quote(user, safe='')}", None, login)


def unblock(rest: Rest, login: Login, user: str) -> None:
    rest.call("DELETE", f"/v1/blocks/{quote(user, safe='')}", None, login)


def devices(rest: Rest, login: Login) -> list[Device]:
    answer = rest.pages("/v1/devices", login)
    return [
        Device(
            _text(row, "device_id"), str(row.get("name") or ""), int(row.get("last_seen") or 0),
            bool(row.get("logged_in")), int(row.get("tokens") or 0), bool(row.get("current")),
        )
        for row in _rows({"devices": answer}, "devices")
    ]  # fmt: skip


def history(rest: Rest, login: Login, peer: str, *, before: int = 0, limit: int = 50) -> Page:
    """What was said with `peer` below the message `before`, or the newest. Items have no n: they come from no inbox."""
    asked: dict[str, Any] = {"peer": peer, "limit": limit} | ({"before": before} if before else {})
    answer = rest.call("GET", f"/v1/messages?{urlencode(asked)}", None, login)
    items = sorted(_items(answer), key=lambda item: item.mid)
    more = bool(items) and isinstance(answer, dict) and answer.get("next") is not None
    return Page(items, items[0].mid if more else 0)


def _items(answer: Any) -> Iterator[Item]:
    for row in _rows(answer, "messages"):
        mid, ts, content = row.get("mid"), row.get("ts"), row.get("message")
        if type(mid) is not int or type(ts) is not int or not 0 < mid < LARGEST or not isinstance(content, dict):
            raise Garbled("a message of the history is mid, ts, from, to and message")
        yield Item("chat", _text(row, "from"), _text(row, "to"), 0, mid, ts, content)


def _rows(answer: Any, name: str) -> list[dict[str, Any]]:
    rows = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Garbled(f"the answer has no list of {name}")
    return rows


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise Garbled(f"the answer lacks {name}")
    return value
