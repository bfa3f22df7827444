"""The face of the bot for threads."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from aldis.mobile_client_demo.bot.base import BaseBot
from aldis.mobile_client_demo.bot.handlers import Arrived, Message
from aldis.mobile_client_demo.bot.handles import Handle
from aldis.mobile_client_demo.bot.reception import Invoke, read
from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.rest import Relation
from aldis.mobile_client_demo.wire import Item

logger = logging.getLogger(__name__)


class Bot(BaseBot):
    """`with Bot(…) as bot:` or `bot.run()`. Methods may be called from any thread, handlers included; but a handler
    that waits for what another handler does waits for ever: there is one thread for all of them."""

    def _invoker(self) -> Invoke:
        return _call

    def start(self) -> None:
        """Returns at once; connecting, now and later, goes on behind."""
        self._core.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Lets the handler that runs end, says goodbye. What was sent and has not left stays on disk."""
        self._core.stop(timeout)

    def run(self) -> None:
        """Until SIGINT, SIGTERM or `stop` from another thread. Raises what makes going on senseless: `NotAllowed`."""
        asked = threading.Event()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: asked.set())
        self.start()
        while not asked.wait(0.2) and not self._core.over.is_set():
            pass
        self.stop()
        if self._core.fault is not None:
            raise self._core.fault

    def __enter__(self) -> Bot:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_online(self, timeout: float | None = None) -> bool:
        return self._core.online.wait(timeout)

    def send(
        self, to: str, body: Any, type: str = "text", *, encrypted: bool = False, ordered: bool = False, **fields: Any
    ) -> Handle:
        """On disk when it returns, and sent as soon as may be, over crashes and reconnects, once. `ordered` gives it a
        `seq` and lets it wait for the answer to the one before. Further fields go with the message. Raises
        `OutboxFull`, and for an encrypted one `NoKey`."""
        return self._send(to, body, type, encrypted, ordered, **fields)

    def reply(self, message: Message, body: Any, **how: Any) -> Handle:
        """To its sender, encrypted if the message was."""
        return self.send(message.sender, body, **({"encrypted": message.encrypted} | how))

    def waiting(self) -> list[Handle]:
        """Handles of what is not settled, from earlier runs too."""
        return self._core.waiting()

    def count_waiting(self) -> int:
        """How many are not settled."""
        return self._core.count_waiting()

    def read(self, message: Message) -> None:
        """Tells its sender that all up to this one was shown, now or when there is a connection."""
        self._core.say_read(message.sender, message.mid)

    def say_read(self, peer: str, up_to: int) -> None:
        """The same by number."""
        self._core.say_read(peer, up_to)

    def report(self, topic: str, payload: bytes | str, *, retain: bool = True, qos: int = 1) -> bool:
        """Publishes below `devices/{me}/`; False while offline: report again in `on_online`."""
        return self._report(topic, payload, retain, qos)

    def send_file(self, to: str, path: str | Path, *, mime: str = "application/octet-stream") -> Handle:
        """Uploads it, encrypted while it is read, and sends what the receiver needs. Raises `RestError`, `NoLogin`."""
        return self._send_file(to, Path(path), mime)

    def fetch_file(self, message: Message, target: str | Path) -> FileMessage:
        """The file of a message of type `file`, whole and checked, or an error."""
        return self._fetch_file(message, Path(target))

    def history(self, peer: str, *, before: int = 0, limit: int = 50) -> tuple[list[Message], int]:
        """What was said with `peer` below the message `before`, or the newest, oldest first; and the `before` of the
        page above, 0 where there is none. Raises `RestError`, `NoLogin`."""
        return self._history(peer, before, limit)

    def offer_keys(self, relations: Iterable[Relation]) -> None:
        """The keys of a list of relations, where this device has none: so that it can encrypt to all of them."""
        self._core.keys.offered((one.friend, one.key) for one in relations if one.key is not None)

    def decrypt(self, item: Item) -> Message:
        """What an item says that came from elsewhere, such as one's own in the outbox."""
        return read(item, self._core.keys)

    def rotate_key(self, friend: str) -> int:
        """A new version of the key with this friend; which one it is."""
        return self._core.keys.rotate(friend)

    def seal(self, friend: str) -> bool:
        """Says that this side wants sealed keys; whether the friend has said so, too. Then it makes one where there is
        none, and wraps for new devices what this one has. Register and confirm first: raises `Distrusted`."""
        return self._core.keys.seal(friend)

    def safety_number(self, friend: str) -> str:
        return self._core.keys.safety_number(friend)

    def confirm(self, friend: str, number: str) -> None:
        self._core.keys.confirm(friend, number)

    def register_key(self) -> None:
        """Lets friends seal keys for this device."""
        self._core.keys.register()


def _call(function: Callable[..., Any], arrived: Arrived) -> None:
    function() if arrived is None else function(arrived)
