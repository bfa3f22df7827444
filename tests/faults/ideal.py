"""A small history as a faultless server would leave it, every event in its place: the ground for planted faults."""

from __future__ import annotations

import itertools
from typing import Any

from tests.faults.history import Event, What

ADA, BOB, CAROL, EVE = "ada", "bob", "carol", "eve"
DEVICES = {
    (ADA, "phone"): 1,
    (ADA, "laptop"): 1,
    (BOB, "phone"): 1,
    (BOB, "tablet"): 2,
    (BOB, "watch"): 0,
    (EVE, "phone"): 1,
    (BOB, "doomed"): 1,
    (CAROL, "phone"): 1,
}


class Ideal:
    """Ada's phone and Bob's tablet talk; everybody sees what is theirs; Eve gets nothing; Bob's fourth device is kicked
    in the middle, and Ada blocks Carol at the end."""

    def __init__(self, messages: int = 12) -> None:
        self.events: list[Event] = []
        self._ticks = itertools.count(1)
        self._heads = dict.fromkeys((ADA, BOB, CAROL, EVE), 0)
        self._counts: dict[tuple[str, str], int] = {}
        self._mids = itertools.count(100)
        self._rows: list[list[Any]] = []
        self._inboxes: dict[str, list[int]] = {user: [] for user in self._heads}
        self._kicked = False
        self._conns = {place: number for number, place in enumerate(DEVICES, 1)}
        self._open()
        for number in range(messages):
            self._message((ADA, "phone"), BOB)
            self._message((BOB, "tablet"), ADA)
            if number == messages // 2:
                self._kick()
        self._refused()
        self._close()

    def _note(self, what: What, **fields: Any) -> None:
        self.events.append(Event(next(self._ticks) / 10, what, **fields))

    def _at(self, place: tuple[str, str]) -> dict[str, Any]:
        return {"user": place[0], "device": place[1], "conn": self._conns[place]}

    def _open(self) -> None:
        self._note(What.RUN, data={"seed": 0, "block": 0.0, "kick": 0.0, "owner": 0.0})
        for (user, device), qos in DEVICES.items():
            self._note(What.DEVICE, user=user, device=device, qos=qos)
        self._note(What.FRIENDS, user=ADA, peer=BOB)
        self._note(What.FRIENDS, user=ADA, peer=CAROL)
        for place in DEVICES:
            self._note(What.CONNECTED, node="A", **self._at(place))
            self._note(What.SUBSCRIBED, **self._at(place))
        self._epochs(1_000)
        self._resources(50)

    def _epochs(self, epoch: int) -> None:
        self._note(What.EPOCHS, data={ADA: {"phone": epoch, "laptop": epoch}, BOB: {"phone": epoch}})

    def _resources(self, megabytes: int) -> None:
        data = {"pid": 7, "rss": megabytes * 2**20, "descriptors": 30, "tasks": 9}
        self._note(What.RESOURCES, node="A", data=data)

    def _message(self, sender: tuple[str, str], to: str) -> None:
        count = self._counts[sender[0], to] = self._counts.get((sender[0], to), 0) + 1
        token = f"{sender[0]}/{sender[1]}>{to}#{count}"
        mid = next(self._mids)
        self._note(What.PUBLISHING, token=token, to=to, id=count, qos=1, sum=mid * 3, **self._at(sender))
        self._note(What.RECEIPT, kind="sent", peer=to, id=count, mid=mid, **self._at(sender))
        self._note(What.ACKNOWLEDGED, token=token, **self._at(sender))
        self._rows.append([mid, *sender, str(count), to, token])
        self._item(to, mid, token, kind="chat", peer=sender[0])
        self._item(sender[0], mid, token, kind="sync", peer=sender[0], note=sender[1])
        for device in self._of(sender[0]):
            self._note(What.RECEIPT, kind="delivered", peer=to, up_to=mid, **self._at(device))
        if count % 4 == 0:
            reader = self._of(to)[0]
            self._note(What.READING, user=to, device=reader[1], peer=sender[0], up_to=mid)
            self._note(What.HAS_READ, user=to, device=reader[1], peer=sender[0], up_to=mid)
            for device in self._of(sender[0]):
                self._note(What.RECEIPT, kind="read", peer=to, up_to=mid, **self._at(device))
            self._note(What.AGAIN, token=token, **self._at(sender))
            self._note(What.RECEIPT, kind="sent", peer=to, id=count, mid=mid, **self._at(sender))
            self._note(What.ACKNOWLEDGED, token=token, **self._at(sender))

    def _of(self, user: str) -> list[tuple[str, str]]:
        return [place for place in DEVICES if place[0] == user and not (self._kicked and place[1] == "doomed")]

    def _item(self, user: str, mid: int, token: str, **fields: Any) -> None:
        self._heads[user] += 1
        self._inboxes[user].append(mid)
        n = self._heads[user]
        for place in self._of(user):
            if fields.get("note") == place[1]:
                continue
            item = {"to": user, "n": n, "mid": mid, "token": token, "sum": mid * 3, "qos": DEVICES[place], **fields}
            self._note(What.GOT, **item, **self._at(place))
            if DEVICES[place]:
                self._note(What.TAKING, n=n, **self._at(place))

    def _kick(self) -> None:
        self._note(What.KICKING, user=BOB, device="doomed")
        self._note(What.KICKED, user=BOB, device="doomed")
        self._kicked = True

    def _refused(self) -> None:
        """Eve tries Bob, and Carol tries Ada after she has blocked her."""
        self._note(What.FORBIDDING, user=ADA, peer=CAROL)
        self._note(What.FORBIDDEN, user=ADA, peer=CAROL)
        for sender, to in (((EVE, "phone"), BOB), ((CAROL, "phone"), ADA)):
            token = f"{sender[0]}/{sender[1]}>{to}#1000"
            self._note(What.PUBLISHING, token=token, to=to, id="late", qos=1, sum=1, **self._at(sender))
            self._note(What.RECEIPT, kind="failed", peer=to, id="late", note="not_friend", **self._at(sender))
            self._note(What.ACKNOWLEDGED, token=token, **self._at(sender))

    def _close(self) -> None:
        self._note(What.QUIET)
        self._epochs(1_001)
        self._resources(52)
        newest = {kind: max(mid for mid, *_ in self._rows if mid % 2 == kind) for kind in (0, 1)}
        read = {
            kind: max(e.up_to for e in self.events if e.what is What.READING and e.up_to % 2 == kind) for kind in (0, 1)
        }
        data = {
            "inboxes": {user: [0, self._heads[user], mids] for user, mids in self._inboxes.items() if mids},
            "messages": self._rows,
            "cursors": {
                user: {device: self._heads[user] for owner, device in DEVICES if owner == user} for user in (ADA, BOB)
            },
            "receipts": [[BOB, ADA, newest[0], read[0]], [ADA, BOB, newest[1], read[1]]],
        }
        self._note(What.STORE, data=data)
        self._note(What.END)
