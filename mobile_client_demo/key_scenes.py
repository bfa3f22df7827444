"""Two scenes about keys: a new version while messages are on their way, and keys that the server never sees.

They come at the end of the story, when Alice has a phone and a tablet, and Bob his laptop.
"""

from __future__ import annotations

from collections.abc import Callable

from aldis.mobile_client_demo.client import Client
from aldis.mobile_client_demo.encryption import Keyring
from aldis.mobile_client_demo.promises import Broken, expect
from aldis.mobile_client_demo.rest import Refused
from aldis.mobile_client_demo.sealed_device import Distrusted, SealedDevice
from aldis.mobile_client_demo.sealing import DevicePair
from aldis.mobile_client_demo.stage import Stage

PROMISES = {
    "rotation": "a new key version refuses nothing: what is under the old one is taken, and stays readable",
    "told": "both friends are told of a new key version by a message in their inboxes",
    "sealed": "a sealed key reaches every device of both friends, and from the server nobody gets more than blobs",
    "late device": "a device that comes later lacks the sealed keys until an older one wraps them for it",
}


def they_change_the_key(stage: Stage) -> None:
    phone, laptop = stage.online()
    alice, bob = stage.alice, stage.bob
    old, since = alice.keys.newest(bob.user).version, len(laptop.items)
    with stage.checks.judging("rotation"):
        made = stage.rest.rotate_key(phone.login, bob.user, old)
        expect(made.newest == old + 1, f"after version {old} comes {made.newest}")
        again = stage.rest.rotate_key(laptop.login, alice.user, old)
        expect(again == made, "the same rotation, asked for by the other side, made another key")
        stage.say(alice, f"REST   key version {made.newest}")
        late = stage.send(phone, bob.user, "Still under the old key")
        stage.fetch_keys(alice, phone.login)
        stage.fetch_keys(bob, laptop.login)
        new = stage.send(phone, bob.user, "And this under the new one")
        versions = [message.content["enc"]["v"] for message in (late, new)]
        expect(versions == [old, old + 1], f"encrypted under {versions}")
        for item, text in zip(stage.arrive(laptop, [late, new], since=since), (late.text, new.text), strict=True):
            expect(laptop.text(item) == text, f"“{text}” cannot be read after the rotation")
        kept = [one.version for one in stage.rest.keys(laptop.login, alice.user).versions]
        expect(old in kept and old + 1 in kept, f"of the versions only {kept} are left")
    with stage.checks.judging("told"):
        for client, other in ((phone, bob.user), (laptop, alice.user)):
            _told(client, other, old + 1)


def _told(client: Client, other: str, version: int) -> None:
    wanted = {"type": "key_rotated", "user_id": other, "version": version}

    def there() -> bool:
        return any(item.kind == "system" and wanted.items() <= item.content.items() for item in client.items)

    client.wait(there, f"{client.name} was not told of key version {version}")


def they_seal(stage: Stage) -> None:
    phone, laptop = stage.online()
    alice, bob = stage.alice, stage.bob
    device = SealedDevice(stage.rest, phone.login, alice.keys)
    friend = SealedDevice(stage.rest, laptop.login, bob.keys)
    with stage.checks.judging("sealed"):
        for one in (device, friend):
            one.register()
        expect(not stage.rest.want_sealed(phone.login, bob.user), "one side alone has sealed the relation")
        expect(stage.rest.want_sealed(laptop.login, alice.user), "both want it sealed, and it is not")
        number = device.safety_number(bob.user)
        expect(number == friend.safety_number(alice.user), "the safety numbers differ")
        stage.say(alice, f"safety number {number[:23]} …")
        device.confirm(bob.user, number)
        friend.confirm(alice.user, number)
        version = device.seal(bob.user)
        for one, other in ((device, bob.user), (friend, alice.user)):
            expect(one.fetch(other) == [], "a version is missing")
        since = len(laptop.items)
        message = stage.send(phone, bob.user, "Between the two of us")
        expect(message.content["enc"]["v"] == version, "encrypted under another key than the sealed one")
        item = stage.arrive(laptop, [message], since=since)[0]
        expect(laptop.text(item) == message.text, "the sealed text cannot be read")
        newest = stage.rest.keys(laptop.login, alice.user).versions[-1]
        expect(newest.key is None and newest.wrapped is not None, "the server gives out a key that it must not know")
        _refused(stage, phone)
    with stage.checks.judging("late device"):
        _late_device(stage, device, friend, version)


def _refused(stage: Stage, phone: Client) -> None:
    try:
        stage.rest.rotate_key(phone.login, stage.bob.user, stage.rest.keys(phone.login, stage.bob.user).newest)
    except Refused as refusal:
        expect(refusal.status == 409, f"refused with {refusal.status}")
    else:
        raise Broken("the server has made a key for a sealed relation")


def _late_device(stage: Stage, device: SealedDevice, friend: SealedDevice, version: int) -> None:
    alice, bob, tablet = stage.alice, stage.bob, stage.clients["tablet"]
    late = SealedDevice(stage.rest, tablet.login, Keyring())
    late.register()
    expect(late.fetch(bob.user) == [version], "a device has a key that nobody has wrapped for it")
    _distrusts(lambda: device.help(bob.user), "a key was wrapped for a device that nobody has confirmed")
    _distrusts(lambda: friend.confirm(alice.user, "00000 " * 12), "a false safety number was confirmed")
    number = late.safety_number(bob.user)
    for one, other in ((device, bob.user), (friend, alice.user), (late, bob.user)):
        one.confirm(other, number)
    expect(device.help(bob.user) == 1, "the phone had nothing to wrap for the tablet")
    expect(late.fetch(bob.user) == [], "the tablet lacks a version still")
    expect(late.keys.newest(bob.user) == alice.keys.newest(bob.user), "the tablet has another key")
    stage.say(alice, f"tablet has sealed key version {version}")
    late.pair = DevicePair()
    late.register()
    expect(device.safety_number(bob.user) != number, "another public key, and the same safety number")


def _distrusts(act: Callable[[], object], otherwise: str) -> None:
    try:
        act()
    except Distrusted:
        return
    raise Broken(otherwise)


Scene = tuple[str, Callable[[Stage], None]]

SCENES: tuple[Scene, ...] = (
    ("They change the key", they_change_the_key),
    ("They seal it: the server knows the key no more", they_seal),
)
