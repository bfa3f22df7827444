"""Users of a test server and their devices: registered over REST, talking MQTT, keeping a journal of what they see."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from tests.servers import Aldis
from tests.wire import (
    ACCEPTED,
    PATIENCE,
    Client,
    Closed,
    Published,
    Stream,
    is_publish,
    puback,
    pubcomp,
    publish,
    published,
    pubrec,
    pubrel,
    subscribe,
    unsuback,
    unsubscribe,
)

_numbers = itertools.count(1)


class Person:
    """A registered user. Tokens are asked for once per device."""

    def __init__(self, server: Aldis, user: str) -> None:
        self.server = server
        self.user = user
        self._tokens: dict[str, str] = {}

    def token(self, device: str) -> str:
        if device not in self._tokens:
            self._tokens[device] = self.server.login(self.user, device)
        return self._tokens[device]

    def rest(self, method: str, path: str, body: Any = None, *, device: str = "phone") -> Any:
        return self.server.rest(method, path, body, self.token(device))

    def befriend(self, *others: Person) -> None:
        for other in others:
            self.rest("POST", "/v1/friend-requests", {"to": other.user})
            other.rest("POST", f"/v1/friend-requests/{self.user}/accept")

    def dial(self, device: str = "phone", answer: bytes = ACCEPTED, **options: Any) -> Device:
        """A connected device, without any subscription. `receive_buffer` makes it a slow link."""
        client = Device(self, device, self.server.stream(receive_buffer=options.pop("receive_buffer", None)))
        client.connected(device, answer, user=self.user, password=self.token(device), **options)
        return client

    def online(self, device: str = "phone", *, qos: int = 1, **options: Any) -> Device:
        """A connected device that takes its whole inbox."""
        client = self.dial(device, **options)
        client.subscribed((f"inbox/{self.user}/#", qos))
        return client


def people(server: Aldis, *names: str, friends: bool = True) -> list[Person]:
    """New users whose ids begin with these names; all friends with one another."""
    number = next(_numbers)
    users = [Person(server, f"{name}{number}") for name in names]
    server.register(*(person.user for person in users))
    if friends:
        for index, person in enumerate(users):
            person.befriend(*users[index + 1 :])
    return users


class Device(Client):
    """A client of the wire contract. `read` acknowledges what comes and puts it into the journal."""

    def __init__(self, person: Person, device: str, stream: Stream) -> None:
        super().__init__(stream)
        self.person = person
        self.user = person.user
        self.device = device
        self.journal: list[Published] = []
        self._documents: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.acknowledged: list[int] = []
        self._last_id = 0

    # Sending

    def next_id(self) -> int:
        self._last_id = self._last_id % 65_535 + 1
        return self._last_id

    def chat_packet(self, to: Person | str, document: Any, *, qos: int = 1, id: int = 0) -> bytes:
        """PUBLISH of a chat message; `document` is JSON, or bytes as they are."""
        user = to if isinstance(to, str) else to.user
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        return publish(f"inbox/{user}/chat/{self.user}", payload, qos=qos, id=id or self.next_id())

    def say(self, to: Person | str, document: Any, *, qos: int = 1) -> dict[str, Any]:
        """Sends a chat message and reads on until it is acknowledged; the receipt that stands before the PUBACK."""
        id = self.next_id()
        self.send(self.chat_packet(to, document, qos=qos, id=id))
        before = len(self.documents("receipt"))
        self.until(lambda: id in self.acknowledged)
        self.acknowledged.remove(id)
        if qos == 2:
            self.send(pubrel(id))
        (answer,) = [one for one in self.documents("receipt")[before:] if one["type"] in ("sent", "failed")]
        return answer

    def published(self, topic: str, payload: bytes = b"", *, qos: int = 1, id: int = 0, retain: bool = False) -> None:
        """As `Client.published`, but what comes in between is read."""
        id = id or self.next_id()
        self.send(publish(topic, payload, qos=qos, id=id, retain=retain))
        self.until(lambda: id in self.acknowledged)
        self.acknowledged.remove(id)

    def subscribed(self, *filters: tuple[str, int], id: int = 0) -> Device:
        """As `Client.subscribed`, but what comes before the SUBACK is read: receipts may [3.8.4]."""
        assert self.asked_for(*filters) == [qos for _, qos in filters]
        return self

    def asked_for(self, *filters: tuple[str, int]) -> list[int]:
        """SUBSCRIBE, and the codes of its SUBACK."""
        self.send(subscribe(self.next_id(), *filters))
        while (wire := self.read())[0] >> 4 != 9:
            pass
        return list(wire[-len(filters) :])

    def has_read(self, peer: Person, up_to: int) -> None:
        """Says that its app has shown everything of `peer` up to this mid."""
        id = self.next_id()
        payload = json.dumps({"type": "read", "up_to": up_to}).encode()
        self.send(publish(f"inbox/{peer.user}/receipt/{self.user}", payload, qos=1, id=id))
        self.until(lambda: id in self.acknowledged)

    # Receiving

    def read(self, timeout: float = PATIENCE) -> bytes:
        """One packet: a PUBLISH is acknowledged and noted, a PUBREL answered, an acknowledgement noted."""
        wire = self.packet(timeout)
        kind = wire[0] >> 4
        if is_publish(wire):
            self.note(published(wire))
        elif kind in (4, 5):
            self.acknowledged.append(int.from_bytes(wire[2:4], "big"))
        elif kind == 6:
            self.send(pubcomp(int.from_bytes(wire[2:4], "big")))
        return wire

    def note(self, found: Published) -> None:
        if found.qos == 1:
            self.send(puback(found.id))
        elif found.qos == 2:
            self.send(pubrec(found.id))
        self.journal.append(found)
        if found.topic.startswith(f"inbox/{self.user}/"):
            self._documents[found.topic.split("/")[2]].append(found.document)

    def until(self, condition: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Reads on until the condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.read(deadline - time.monotonic())

    def caught_up(self) -> None:
        """Reads everything that the server has for us by now, what follows a SUBSCRIBE included. A ping would not do:
        it is answered even while a SUBSCRIBE waits for the store."""
        id = self.next_id()
        self.send(unsubscribe(id, "never/subscribed"))
        while self.read() != unsuback(id):
            pass

    def documents(self, kind: str = "chat") -> list[dict[str, Any]]:
        """What has come so far on `inbox/{me}/{kind}/…`, repeats included."""
        return self._documents[kind]

    def chats(self, count: int, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Waits for this many chat messages in all, and returns them."""
        self.until(lambda: len(self.documents()) >= count, timeout)
        return self.documents()

    def receipts(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.documents("receipt") if one["type"] == kind]


def bodies(documents: Iterable[dict[str, Any]]) -> list[Any]:
    return [one["body"] for one in documents]


class Bystanders:
    """Two friends who talk all the time, one message after the other, in the background. `check` says whether their
    conversation has gone on, and gone well, since it was last asked."""

    def __init__(self, server: Aldis) -> None:
        self._server = server
        self._said = 0
        self._slowest = 0.0
        self._failure: BaseException | None = None
        self._stop = threading.Event()
        speaker, listener = people(server, "speaker", "listener")
        self._speaker = speaker.online()
        self._listener = listener.online()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        try:
            while not self._stop.wait(0.01):
                began = time.monotonic()
                number = self._said + 1
                answer = self._speaker.say(self._listener.person, {"id": number, "seq": number, "body": number})
                assert (answer["type"], answer["id"]) == ("sent", number), answer
                chats = self._listener.chats(number)
                assert chats[-1]["body"] == number and len(chats) == number, chats[-3:]
                self._said = number
                self._slowest = max(self._slowest, time.monotonic() - began)
        except BaseException as error:
            self._failure = error

    def check(self) -> None:
        """Three more messages make their way from now on, and no message so far took longer than two seconds."""
        goal = self._said + 3
        deadline = time.monotonic() + PATIENCE
        while self._said < goal and self._failure is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self._failure is None, f"the bystanders' conversation broke: {self._failure!r}"
        assert self._said >= goal, "the bystanders' conversation stands still"
        assert self._slowest < 2.0, f"a bystander waited for {self._slowest:.1f} s"

    def end(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        self._speaker.close()
        self._listener.close()


__all__ = ["Bystanders", "Closed", "Device", "Person", "bodies", "people"]
