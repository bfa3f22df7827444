"""Who plays: users, their friends, their devices and habits, all drawn from one seed. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

Sends = Literal["nothing", "bare", "id", "seq"]
"""Text without id; JSON with id; JSON with id and seq."""


class Habits(msgspec.Struct, frozen=True):
    """What one device does of its own accord. Times in seconds."""

    user: str
    device: str
    qos: int = 1
    """Of its subscription."""
    clean: bool = True
    sends: Sends = "nothing"
    send_qos: int = 1
    to: tuple[str, ...] = ()
    rate: float = 0.0
    """Messages per second."""
    slow: float = 0.0
    """An item is acknowledged after a random time up to this one."""
    reads: float = 0.0
    """The share of items after which its app says that it has read them."""
    repeats: float = 0.0
    """The share of acknowledged messages that are published once more."""
    life: float = 0.0
    """Mean time after which it leaves by itself and comes back; 0: it stays."""
    restarts: float = 0.0
    """The share of reconnects at which its app starts anew and publishes again what was not acknowledged."""
    wander: bool = False
    """Takes a random node at each reconnect, not the next one."""
    seed: int = 0


class Cast(msgspec.Struct, frozen=True):
    """`friends` are pairs; `strangers` may not write to each other, and some try; `quarrel` is (who blocks, whom);
    `doomed` is the device that is kicked; `arena` the one that two clients will fight for."""

    seed: int
    devices: list[Habits]
    friends: list[tuple[str, str]]
    quarrels: list[tuple[str, str]]
    doomed: list[tuple[str, str]]
    arena: tuple[str, str]

    @property
    def users(self) -> list[str]:
        return sorted({device.user for device in self.devices})


def draw(seed: int, rate: float = 60.0, quarrels: int = 2) -> Cast:
    """A cast that publishes about `rate` messages a second in all; `quarrels` of its friendships will end, and as many
    devices be kicked."""
    chance = random.Random(seed)
    ada, bob, carol, dora, eve = (f"{name}{seed}" for name in ("ada", "bob", "carol", "dora", "eve"))
    rivals = [f"rival{seed}x{number}" for number in range(quarrels)]
    devices = [
        # the senders: two of each kind, on every QoS
        Habits(
            ada, "phone", qos=1, clean=False, sends="seq", send_qos=1, to=(bob, carol), rate=5, life=12, restarts=0.3
        ),
        Habits(ada, "laptop", qos=2, sends="id", send_qos=2, to=(bob, carol, ada), rate=3, reads=0.1, life=20),
        Habits(bob, "phone", qos=2, clean=False, sends="seq", send_qos=2, to=(ada, dora), rate=3, reads=0.2),
        Habits(bob, "tablet", qos=1, sends="id", send_qos=1, to=(ada, carol, eve), rate=4, slow=0.2, wander=True),
        Habits(bob, "watch", qos=0, sends="id", send_qos=0, to=(ada,), rate=1, wander=True),
        Habits(carol, "phone", qos=1, clean=False, sends="bare", send_qos=1, to=(ada, bob), rate=3, slow=0.3, life=15),
        Habits(carol, "tablet", qos=2, clean=False, wander=True, reads=0.1),
        Habits(dora, "arena", qos=1, reads=0.2),
        Habits(dora, "phone", qos=1, clean=False, sends="id", send_qos=1, to=(bob, eve), rate=3, life=6, restarts=0.5),
        # eve knows nobody but tries
        Habits(eve, "phone", qos=1, sends="id", send_qos=1, to=(ada, dora), rate=0.5, wander=True),
    ]
    friends = [(ada, bob), (ada, carol), (bob, carol), (bob, dora)]
    for number, rival in enumerate(rivals):
        devices.append(Habits(rival, "phone", qos=1, sends="id", to=(ada,), rate=2, wander=bool(number % 2)))
        devices.append(Habits(rival, "doomed", qos=1, clean=bool(number % 2)))
        friends.append((rival, ada))
        # the doomed device must have something to get until it is kicked
        devices[1] = msgspec.structs.replace(devices[1], to=(*devices[1].to, rival))
    load = sum(device.rate for device in devices)
    devices = [
        msgspec.structs.replace(
            device,
            rate=device.rate * rate / load,
            repeats=0.05 if device.sends in ("id", "seq") and device.send_qos else 0.0,
            seed=chance.getrandbits(32),
        )
        for device in devices
    ]
    return Cast(
        seed,
        devices,
        friends,
        quarrels=[(ada, rival) for rival in rivals],
        doomed=[(rival, "doomed") for rival in rivals],
        arena=(dora, "arena"),
    )


class Stage(msgspec.Struct, frozen=True):
    """What a generator is given: the cast, the password of each device, where the nodes are."""

    cast: Cast
    tokens: dict[str, str]
    """By `user/device`."""
    nodes: list[tuple[str, str, int]]
    """(name, host, port)"""
    log: str
    keep_alive: int = 3


def password(stage: Stage, habits: Habits) -> str:
    return stage.tokens[f"{habits.user}/{habits.device}"]


def devices_of(cast: Cast, users: Sequence[str]) -> list[Habits]:
    return [device for device in cast.devices if device.user in users]
