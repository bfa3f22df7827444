"""The story of Alice and Bob: twelve scenes, each of which holds the server to some of its promises.

A scene that finds a promise broken ends there; the next one starts from whatever state is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from aldis.mobile_client_demo import key_scenes
from aldis.mobile_client_demo import promises as rules
from aldis.mobile_client_demo.client import Client
from aldis.mobile_client_demo.encryption import CannotDecrypt, decrypt
from aldis.mobile_client_demo.journal import Missing
from aldis.mobile_client_demo.outbox import Outgoing
from aldis.mobile_client_demo.promises import Broken, arrived_as_sent, expect
from aldis.mobile_client_demo.rest import Login, Refused, RestError
from aldis.mobile_client_demo.stage import Person, Stage
from aldis.mobile_client_demo.wire import Item

PROMISES = {
    "password": "a wrong password is refused",
    "stranger": "a message to a stranger is answered with failed: not_friend",
    "keys": "two friends, and not before they are friends, hold the same AES-256 key in the same version",
    "notices": "the server tells Bob of the request and Alice of its acceptance, also when they come later",
    "backlog": "after login, relations and subscription, what waited comes before anything live",
    "encrypted": "encrypted texts pass both ways, the sender's fields untouched behind n, mid, ts",
    "sent": "every message is acknowledged (PUBACK) and answered with sent",
    "delivered": "delivered comes only after a device has acknowledged, and is cumulative",
    "read": "read comes only after the other app says so, exactly as far as it says, and is cumulative",
    "offline": "messages wait for an offline device and come in order of n, before anything live",
    "late": "delivered follows when the device has come back",
    "cut": "a receiver cut off in mid-stream resumes without loss, and without doubles after dropping repeats of n",
    "outbox": "a sender cut off in mid-stream publishes its outbox again: nothing lost, nothing doubled",
    "repeat": "the same id published again is the same message: one mid, delivered once",
    "sync": "another device of the sender gets a copy of all it sends, in order, and every message to it",
    "gap": "messages that arrive with a gap in seq are held back and delivered in order",
    **key_scenes.PROMISES,
    "order": "over the whole run every device got every message once, in rising n and in the order sent",
    "receipts": "over the whole run no receipt came before its cause, fell back, or gave one id two mids",
    "wire": "over the whole run every packet kept the wire contract",
}
QUIET = 0.3
"""Seconds to watch for something that must not happen."""


def strangers_become_friends(stage: Stage) -> None:
    alice, bob = stage.alice, stage.bob
    for person in (alice, bob):
        stage.rest.register(person.user, person.password, person.user.partition("-")[0].title())
        stage.say(person, f"REST   registers as {person.user}")
    with stage.checks.judging("password"):
        _wrong_password(stage, alice)
    phone_login, laptop_login = stage.log_in(alice, "phone"), stage.log_in(bob, "laptop")
    stage.fetch_keys(alice, phone_login)
    phone = stage.give(alice, phone_login)
    phone.connect()
    with stage.checks.judging("stranger"):
        message = phone.write(bob.user, "Do we know each other?", encrypted=False, ordered=False)
        phone.publish(message)
        phone.wait(lambda: bool(message.answers), "no failed receipt for a message to a stranger")
        expect(message.failed == "not_friend", f"answered with {message.failed or 'sent'} in place of not_friend")
        stage.acknowledged(phone, [message])
    with stage.checks.judging("keys"):
        _accept(stage, phone_login, laptop_login)


def _wrong_password(stage: Stage, person: Person) -> None:
    try:
        stage.rest.login(person.user, person.password + "?", "phone")
    except Refused as refusal:
        expect(refusal.status == 401 and refusal.problem, f"refused, but not as a 401 problem: {refusal}")
        stage.say(person, "REST   a wrong password: 401", "yellow")
    else:
        raise Broken("a login with a wrong password succeeded")


def _accept(stage: Stage, alice_login: Login, bob_login: Login) -> None:
    alice, bob = stage.alice, stage.bob
    stage.rest.request_friend(alice_login, bob.user)
    stage.say(alice, f"REST   asks {bob.user} to be friends")
    for person, login in ((alice, alice_login), (bob, bob_login)):
        early = [relation for relation in stage.rest.relations(login) if relation.key is not None]
        expect(not early, f"{person.user} has a key before the request is accepted")
    stage.rest.accept_friend(bob_login, alice.user)
    stage.say(bob, f"REST   accepts {alice.user}")
    stage.fetch_keys(alice, alice_login)
    stage.fetch_keys(bob, bob_login)
    try:
        ours, theirs = alice.keys.newest(bob.user), bob.keys.newest(alice.user)
    except KeyError as missing:
        raise Broken(f"no key for {missing} after the request was accepted") from missing
    expect(ours == theirs, f"the keys differ: versions {ours.version} and {theirs.version}")


def first_login(stage: Stage) -> None:
    early = stage.burst("Waiting for you", 3)
    stage.answered(stage.phone, early)
    with stage.checks.judging("backlog"):
        login = stage.log_in(stage.bob, "laptop")
        stage.fetch_keys(stage.bob, login)
        laptop = stage.give(stage.bob, login)
        with stage.meanwhile("Live", 3) as live:
            laptop.connect()
        stage.arrive(laptop, early + live, since=0)
    with stage.checks.judging("notices"):
        for client, other in ((stage.phone, stage.bob), (laptop, stage.alice)):
            client.wait(lambda client=client, other=other: _told(client, other), f"{client.name} was not told")  # type: ignore[misc]


def _told(client: Client, other: Person) -> bool:
    """One word of the server names the other one; its other fields are the server's business."""
    return any(item.kind == "system" and other.user in item.content.values() for item in client.items)


def encrypted_both_ways(stage: Stage) -> None:
    phone, laptop = stage.online()
    with stage.checks.judging("encrypted"):
        _exchange(stage, phone, laptop, "Grüß dich! Was that your lamp?")
        _exchange(stage, laptop, phone, "It was. I read every word. 💡")


def _exchange(stage: Stage, sender: Client, receiver: Client, text: str) -> None:
    since = len(receiver.items)
    message = stage.send(sender, receiver.user, text)
    item = stage.arrive(receiver, [message], since=since)[0]
    stage.transcript.line(receiver.user, f"wire   {item.content['body']}", "dim")
    expect(receiver.text(item) == text, f"decrypts to {receiver.text(item)!r} in place of {text!r}")
    expect(list(item.content.items()) == list(message.content.items()), "the sender's fields were changed")
    try:
        key = stage.bob.keys.newest(stage.alice.user)
        decrypt(key, sender=receiver.user, recipient=sender.user, content=item.content)
    except CannotDecrypt:
        return
    raise Broken("the text decrypts with sender and recipient exchanged")


def ticks(stage: Stage) -> None:
    phone, laptop = stage.online()
    progress, since = phone.outbox.progress(laptop.user), len(laptop.items)
    with stage.checks.judging("sent"):
        laptop.hold()
        messages = stage.burst("Tick", 3)
        stage.answered(phone, messages)
    with stage.checks.judging("delivered"):
        stage.arrive(laptop, messages, since=since)
        time.sleep(QUIET)
        expect(progress.delivered < messages[0].mid, "delivered came while the device had acknowledged nothing")
        stage.say(stage.bob, "laptop acknowledges only now")
        laptop.release()
        stage.delivered(phone, messages)
    with stage.checks.judging("read"):
        time.sleep(QUIET)
        expect(progress.read < messages[0].mid, "read came although the app had said nothing")
        for up_to in (messages[0].mid, messages[-1].mid):
            laptop.say_read(phone.user, up_to)
            phone.wait(lambda up_to=up_to: progress.read >= up_to, f"no read up to mid {up_to}")  # type: ignore[misc]
            expect(progress.read == up_to, f"read up to {progress.read}, but the app said {up_to}")


def bob_goes_offline(stage: Stage) -> None:
    phone, laptop = stage.online()
    progress, since = phone.outbox.progress(laptop.user), len(laptop.items)
    stage.delivered(phone, stage.to_bob)
    laptop.disconnect()
    before = progress.delivered
    with stage.checks.judging("offline"):
        waiting = stage.burst("While you were away", stage.messages)
        stage.answered(phone, waiting)
        time.sleep(QUIET)
        expect(progress.delivered == before, f"delivered rose to {progress.delivered} while Bob was offline")
        with stage.meanwhile("Live", 3) as live:
            laptop.connect()
        stage.arrive(laptop, waiting + live, since=since)
    with stage.checks.judging("late"):
        stage.delivered(phone, waiting + live)


def receiver_is_cut_off(stage: Stage) -> None:
    phone, laptop = stage.online()
    since, repeats, middle = len(laptop.items), len(laptop.repeats), stage.messages // 2
    with stage.checks.judging("cut"):
        laptop.die_after(middle)
        messages = stage.burst("Stream", stage.messages)
        laptop.wait(lambda: not laptop.online, f"item {middle} of {stage.messages} did not reach {laptop.name}")
        seen = laptop.items[-1]
        stage.answered(phone, messages)
        laptop.connect()
        stage.arrive(laptop, messages, since=since)
        stage.delivered(phone, messages)
        again = [item.n for item in laptop.repeats[repeats:]]
        expect(seen.n in again, f"n {seen.n} was never acknowledged, and yet did not come again")


def sender_is_cut_off(stage: Stage) -> None:
    phone, laptop = stage.online()
    since = len(laptop.items)
    with stage.checks.judging("outbox"):
        messages = stage.burst("Into the tunnel", stage.messages)
        phone.wait(lambda: bool(messages[0].answers), "no answer to the first message")
        phone.cut()
        messages += stage.burst("In the tunnel", 2)
        stage.say(stage.alice, "phone  two more wait in the outbox")
        phone.connect()
        stage.answered(phone, messages)
        stage.arrive(laptop, messages, since=since)
        stage.delivered(phone, messages)


def sent_again(stage: Stage) -> None:
    phone, laptop = stage.online()
    since = len(laptop.items)
    with stage.checks.judging("repeat"):
        message = stage.send(phone, laptop.user, "Once is enough")
        stage.answered(phone, [message])
        phone.publish(message)
        phone.wait(lambda: len(message.answers) == 2, "no answer to the repeated message")
        phone.disconnect()
        phone.connect()
        phone.publish(message)
        phone.wait(lambda: len(message.answers) == 3, "no answer to the message repeated on a new connection")
        mids = [answer.mid for answer in message.answers]
        expect(len(set(mids)) == 1 and mids[0] > 0, f"one id was answered with the mids {mids}")
        closing = stage.send(phone, laptop.user, "That was all")
        stage.arrive(laptop, [message, closing], since=since)


def second_device(stage: Stage) -> None:
    phone, laptop = stage.online()
    with stage.checks.judging("sync"):
        login = stage.log_in(stage.alice, "tablet")
        stage.fetch_keys(stage.alice, login)
        tablet = stage.give(stage.alice, login)
        tablet.connect()
        at_laptop, at_phone = len(laptop.items), len(phone.items)
        messages = stage.burst("By phone", 2)
        stage.arrive(laptop, messages, since=at_laptop)
        answer = stage.send(laptop, phone.user, "To both of you")
        stage.arrive(phone, [answer], since=at_phone)
        tablet.wait(lambda: any(item.id == answer.id for item in tablet.items), "Bob's answer is not at the tablet")
        copies = [item for item in tablet.items if item.kind == "sync"]
        difference = arrived_as_sent([message.id for message in messages], copies)
        expect(not difference, f"copies at the tablet: {difference}")
        for message, copy in zip(messages, copies, strict=True):
            _is_copy(tablet, message, copy)
        numbers = [item.n for item in tablet.items]
        expect(numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"the tablet's n have a gap: {numbers}")
        expect(all(item.kind != "sync" for item in phone.items), "the phone got a copy of what it sent itself")


def _is_copy(tablet: Client, message: Outgoing, copy: Item) -> None:
    name = f"the copy of “{message.text}”"
    expect(copy.content == message.content, f"{name} has another content")
    expect(copy.mid == message.mid, f"{name} has mid {copy.mid} in place of {message.mid}")
    expect((copy.recipient, copy.device) == (message.to, "phone"), f"{name} says {copy.recipient}, {copy.device}")
    expect(tablet.text(copy) == message.text, f"{name} cannot be decrypted")


def gap(stage: Stage) -> None:
    phone, laptop = stage.online()
    since = len(laptop.items)
    with stage.checks.judging("gap"):
        first, second, third = (phone.write(laptop.user, text) for text in ("One", "Two", "Three"))
        stage.to_bob += [first, second, third]
        phone.publish(first)
        phone.publish(third)
        stage.arrive(laptop, [first], since=since)
        time.sleep(QUIET)
        expect(
            not third.answers and not third.acknowledged, "the message after the gap was answered before the gap closed"
        )
        phone.publish(second)
        stage.arrive(laptop, [first, second, third], since=since)
        stage.answered(phone, [first, second, third])


Scene = tuple[str, Callable[[Stage], None]]

SCENES: tuple[Scene, ...] = (
    ("Two strangers become friends", strangers_become_friends),
    ("Bob comes online for the first time", first_login),
    ("Encrypted, both ways", encrypted_both_ways),
    ("Ticks: sent, delivered, read", ticks),
    ("Bob goes offline", bob_goes_offline),
    ("Bob's network vanishes in mid-stream", receiver_is_cut_off),
    ("Alice's network vanishes in mid-stream", sender_is_cut_off),
    ("Alice is not sure and sends it again", sent_again),
    ("Alice takes up her tablet", second_device),
    ("Message 3 overtakes message 2", gap),
    *key_scenes.SCENES,
)


def play(stage: Stage, scenes: Sequence[Scene] = SCENES) -> None:
    """Plays the scenes and judges the whole. Raises nothing for what the server does: read the checklist after."""
    try:
        for number, (title, scene) in enumerate(scenes, 1):
            stage.transcript.scene(number, title)
            try:
                scene(stage)
            except (Broken, Missing, RestError) as problem:
                stage.transcript.broken(str(problem))
                stage.checks.stopped(str(problem))
                if "laptop" not in stage.clients:
                    return
        time.sleep(QUIET)
        _judge_the_whole(stage)
    finally:
        for client in stage.clients.values():
            client.disconnect()


def _judge_the_whole(stage: Stage) -> None:
    events, chats = stage.journal.events(), [item for item in stage.laptop.items if item.kind == "chat"]
    difference = arrived_as_sent([message.id for message in stage.to_bob], chats)
    order = rules.once_and_in_order(events) + rules.same_inbox_everywhere(events)
    stage.checks.judge("order", order + ([f"at {stage.laptop.name}: {difference}"] if difference else []))
    receipts = rules.one_message_per_id(events) + rules.sent_comes_first(events) + rules.never_back(events)
    receipts += rules.delivered_after_puback(events) + rules.read_after_the_app(events)
    stage.checks.judge("receipts", receipts)
    stage.checks.judge("wire", rules.well_formed(events))
