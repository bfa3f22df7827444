"""What a bot is made with, the same for both faces, and the decorators."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from aldis.mobile_client_demo.bot.access import Access
from aldis.mobile_client_demo.bot.connection import Target, Will
from aldis.mobile_client_demo.bot.core import Core, Limits, Link
from aldis.mobile_client_demo.bot.handlers import Handlers, Kind, Message
from aldis.mobile_client_demo.bot.handles import Handle
from aldis.mobile_client_demo.bot.reception import Invoke, read
from aldis.mobile_client_demo.files import FileMessage, fetch_file, send_file
from aldis.mobile_client_demo.outbox import Progress
from aldis.mobile_client_demo.people import history
from aldis.mobile_client_demo.rest import Rest

F = TypeVar("F", bound=Callable[..., Any])


class Adding:
    """A decorator, bare or with filters: `@bot.on_message` or `@bot.on_message(type="text", sender="shop-*")`."""

    def __init__(self, handlers: Handlers, kind: Kind) -> None:
        self._handlers, self._kind = handlers, kind

    @overload
    def __call__(self, function: F, *, type: str | None = None, sender: str | None = None) -> F: ...

    @overload
    def __call__(
        self, function: None = None, *, type: str | None = None, sender: str | None = None
    ) -> Callable[[F], F]: ...

    def __call__(self, function: Any = None, *, type: str | None = None, sender: str | None = None) -> Any:
        def add(function: F) -> F:
            self._handlers.add(self._kind, function, type=type, sender=sender)
            return function

        return add if function is None else add(function)


class BaseBot:
    """One device of one user. `file` is its memory; it must outlive the process and belongs to this device and server.

    With `token`, a device token, it sends and receives. With `password` and `api`, the address of the REST API, it can
    encrypt and send files as well; `access` is for whoever keeps logins in a way of their own. Handlers run one after
    the other, in the order of the inbox; an item is acknowledged after its handlers have ended, and one that raises is
    logged and counts as handled, unless it raises `NotTaken`. Raises `NotOurs` for a file that is another device's or
    in use.
    """

    def __init__(  # noqa: PLR0913 - each is named by the caller
        self,
        user: str,
        device: str,
        *,
        file: str | Path,
        token: str = "",
        password: str = "",
        mqtt: str = "127.0.0.1:1883",
        api: str = "http://127.0.0.1:8000",
        tls: ssl.SSLContext | None = None,
        will: Will | None = None,
        limits: Limits | None = None,
        access: Access | None = None,
    ) -> None:
        host, _, port = mqtt.rpartition(":")
        rest = Rest(api, timeout=20, tls=tls) if password else None
        self._access = access or Access(user, device, token=token, password=password, rest=rest)
        self._handlers = Handlers()
        self.user, self.device = user, device
        self.on_message = Adding(self._handlers, "message")
        """Called with a `Message`."""
        self.on_sync = Adding(self._handlers, "sync")
        """Called with a `Message` that another device of this user has sent."""
        self.on_system = Adding(self._handlers, "system")
        """Called with an `Item`, a word of the server such as `friend_request`."""
        self.on_receipt = Adding(self._handlers, "receipt")
        """Called with a `Receipt`. A hint: receipts may come again. So are the next two."""
        self.on_presence = Adding(self._handlers, "presence")
        self.on_typing = Adding(self._handlers, "typing")
        target = Target(user, device, (host.strip("[]"), int(port)), tls, will)
        self._core = Core(
            target, Path(file), self._access, handlers=self._handlers, invoke=self._invoker(), limits=limits or Limits()
        )

    def _invoker(self) -> Invoke:
        raise TypeError("take Bot or AsyncBot")

    def on_device(self, filter: str) -> Callable[[F], F]:
        """Called with each `DeviceMessage` below `devices/{me}/` that fits the MQTT filter, at least once. Add it
        before `start`."""

        def add(function: F) -> F:
            self._handlers.add("device", function, type=filter)
            return function

        return add

    def on_online(self, function: F) -> F:
        """Called without arguments after every (re)connect."""
        self._handlers.add("online", function)
        return function

    def progress(self, peer: str) -> Progress:
        """How far the peer has come with what this device has sent: `delivered` and `read`, mids."""
        return self._core.progress(peer)

    @property
    def prefix(self) -> str:
        """The ids of what this device sends begin with it and a hyphen."""
        return self._core.prefix

    @property
    def link(self) -> Link:
        """How it stands with the connection, and when the next attempt begins."""
        return self._core.link

    # What both faces do; blocking

    @property
    def online(self) -> bool:
        return self._core.online.is_set()

    def _send(
        self, to: str, body: Any, type: str = "text", encrypted: bool = False, ordered: bool = False, **fields: Any
    ) -> Handle:
        if fields.keys() & {"id", "seq", "n", "mid", "ts", "enc"}:
            raise ValueError("id, seq, enc and the server's n, mid and ts are not the caller's to set")
        content: dict[str, Any] = {"type": type, **fields}
        if encrypted:
            if not isinstance(body, str):
                raise ValueError("only texts are encrypted")
            content |= self._core.keys.encrypt(to, body)
        else:
            content["body"] = body
        return self._core.send(to, content, ordered=ordered)

    def _send_file(self, to: str, path: Path, mime: str) -> Handle:
        message = self._access.call(lambda rest, login: send_file(rest, login, path, to, mime=mime))
        return self._send(to, message.body(), type="file", encrypted=True)

    def _fetch_file(self, message: Message, target: Path) -> FileMessage:
        described = FileMessage.read(str(message.body))
        self._access.call(lambda rest, login: fetch_file(rest, login, described, target))
        return described

    def _history(self, peer: str, before: int, limit: int) -> tuple[list[Message], int]:
        page = self._access.call(lambda rest, login: history(rest, login, peer, before=before, limit=limit))
        return [read(item, self._core.keys) for item in page.items], page.before

    def _report(self, topic: str, payload: bytes | str, retain: bool, qos: int) -> bool:
        data = payload.encode() if isinstance(payload, str) else payload
        return self._core.publish(f"devices/{self.user}/{topic}", data, qos=qos, retain=retain)

    def typing(self, to: str) -> bool:
        return self._core.publish(f"inbox/{to}/typing/{self.user}", b"{}", qos=0, retain=False)
