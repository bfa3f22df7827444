"""The people of the story, their devices, and the steps that every scene is made of."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from aldis.mobile_client_demo.client import Client
from aldis.mobile_client_demo.encryption import Keyring
from aldis.mobile_client_demo.journal import Journal, Missing
from aldis.mobile_client_demo.outbox import Outgoing
from aldis.mobile_client_demo.promises import Checklist, arrived_as_sent, expect
from aldis.mobile_client_demo.rest import Login, Rest
from aldis.mobile_client_demo.transcript import Transcript
from aldis.mobile_client_demo.wire import Item


@dataclass
class Person:
    """A user: her password, and the keys that her devices share."""

    user: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12), repr=False)
    keys: Keyring = field(default_factory=Keyring)


class Stage:
    """One server of one or more nodes, Alice with her phone, Bob with his laptop. `messages` is the size of a burst.
    The devices are spread over the nodes: each new one goes to the next.

    Steps raise `Missing` when something does not happen within `timeout` seconds, and `Broken` when something else
    happens.
    """

    def __init__(
        self, journal: Journal, transcript: Transcript, checks: Checklist, rest: Rest, *,
        addresses: Sequence[tuple[str, int]], messages: int, timeout: float,
    ) -> None:  # fmt: skip
        self.journal, self.transcript, self.checks, self.rest = journal, transcript, checks, rest
        self.messages = messages
        self.addresses, self._timeout = tuple(addresses), timeout
        suffix = secrets.token_hex(2)
        self.alice, self.bob = Person(f"alice-{suffix}"), Person(f"bob-{suffix}")
        for person in (self.alice, self.bob):
            transcript.add_lane(person.user)
        self.clients: dict[str, Client] = {}
        self.to_bob: list[Outgoing] = []
        """Everything that Alice's phone has sent to Bob as his friend, in order."""

    @property
    def phone(self) -> Client:
        return self.clients["phone"]

    @property
    def laptop(self) -> Client:
        return self.clients["laptop"]

    def say(self, person: Person, text: str, colour: str = "dim") -> None:
        self.transcript.line(person.user, text, colour)

    # article 9: login, relations, and only then the connection

    def log_in(self, person: Person, device: str) -> Login:
        login = self.rest.login(person.user, person.password, device)
        self.say(person, f"REST   logs in on {device}")
        return login

    def fetch_keys(self, person: Person, login: Login) -> None:
        for relation in self.rest.relations(login):
            if relation.key is not None:
                person.keys.add(relation.friend, relation.key)
                self.say(person, f"REST   key of {relation.friend}, version {relation.key.version}")

    def give(self, person: Person, login: Login) -> Client:
        """Puts a logged-in device, not yet connected, into the person's hands."""
        address = self.addresses[len(self.clients) % len(self.addresses)]
        client = Client(self.journal, login, address=address, keys=person.keys, timeout=self._timeout)
        self.clients[login.device] = client
        self._tell_node(client)
        return client

    def send_elsewhere(self, client: Client) -> None:
        """The client's next connection goes to the next node."""
        here = self.addresses.index(client.address)
        client.address = self.addresses[(here + 1) % len(self.addresses)]
        self._tell_node(client)

    def _tell_node(self, client: Client) -> None:
        if len(self.addresses) > 1:
            host, port = client.address
            self.transcript.line(client.user, f"{client.device} turns to {host}:{port}", "dim")

    def online(self) -> tuple[Client, Client]:
        """Alice's phone and Bob's laptop, connected and acknowledging, whatever the scene before has left."""
        for client in (self.phone, self.laptop):
            client.die_after(0)
            if not client.online:
                client.connect()
            client.release()
        return self.phone, self.laptop

    # Sending

    def send(self, client: Client, to: str, text: str) -> Outgoing:
        message = client.write(to, text)
        if to == self.bob.user:
            self.to_bob.append(message)
        client.publish(message)
        return message

    def burst(self, text: str, count: int) -> list[Outgoing]:
        """Alice's phone sends `count` texts to Bob without waiting for any answer."""
        return [self.send(self.phone, self.bob.user, f"{text} {number}/{count}") for number in range(1, count + 1)]

    @contextmanager
    def meanwhile(self, text: str, count: int) -> Iterator[list[Outgoing]]:
        """Alice's phone goes on sending, a little apart, while the block runs; the list is complete after it."""
        sent: list[Outgoing] = []

        def talk() -> None:
            for number in range(1, count + 1):
                sent.append(self.send(self.phone, self.bob.user, f"{text} {number}/{count}"))
                time.sleep(0.005)

        thread = threading.Thread(target=talk, name="alice-talks")
        thread.start()
        try:
            yield sent
        finally:
            thread.join()

    # Waiting and comparing

    def acknowledged(self, client: Client, messages: Sequence[Outgoing]) -> None:
        client.wait(lambda: all(message.acknowledged for message in messages), f"a PUBACK to {client.name} is missing")

    def answered(self, client: Client, messages: Sequence[Outgoing]) -> None:
        """Each message has its PUBACK and its `sent`."""
        client.wait(
            lambda: all(message.answers for message in messages),
            f"no answer to some of {len(messages)} messages of {client.name}",
        )
        for message in messages:
            expect(message.mid > 0, f"“{message.text}” was answered with failed: {message.failed}")
        self.acknowledged(client, messages)

    def delivered(self, client: Client, messages: Sequence[Outgoing]) -> None:
        """`delivered` covers all of them. They have one recipient."""
        self.answered(client, messages)
        last, progress = max(message.mid for message in messages), client.outbox.progress(messages[0].to)
        client.wait(lambda: progress.delivered >= last, f"no delivered up to mid {last} for {client.name}")

    def arrive(self, client: Client, messages: Sequence[Outgoing], *, since: int) -> list[Item]:
        """Exactly these messages, in this order, are the chats at `client` after its first `since` items."""
        ids = [message.id for message in messages]

        def chats() -> list[Item]:
            return [item for item in client.items[since:] if item.kind == "chat"]

        def enough() -> bool:
            return len(client.items) - since >= len(ids) and len(chats()) >= len(ids)

        try:
            client.wait(enough, f"{len(ids)} messages did not all reach {client.name}")
        except Missing as missing:
            raise Missing(f"{missing}: {arrived_as_sent(ids, chats())}") from None
        difference = arrived_as_sent(ids, chats())
        expect(not difference, f"at {client.name}: {difference}")
        return chats()
