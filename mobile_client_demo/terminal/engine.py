"""The bot kit as the engine of a chat: what arrives goes to disk and then to the screen, what is entered to the outbox.

`post` takes events from any thread. An item of the inbox is acknowledged after `post` has returned for it.
"""

from __future__ import annotations

import json
import logging
import queue
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable

from aldis.mobile_client_demo.bot import Bot, Handle, Message, NotAllowed, NotTaken, OutboxFull, SendFailed, Stopped
from aldis.mobile_client_demo.bot.access import Access, NoLogin
from aldis.mobile_client_demo.bot.key_chest import NoKey
from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.files import FileMessage
from aldis.mobile_client_demo.rest import RestError
from aldis.mobile_client_demo.sealed_device import Distrusted
from aldis.mobile_client_demo.terminal import events as e
from aldis.mobile_client_demo.terminal.archive import Archive, line_of
from aldis.mobile_client_demo.terminal.deeds import Deeds
from aldis.mobile_client_demo.terminal.home import Account
from aldis.mobile_client_demo.terminal.state import Contact, Line
from aldis.mobile_client_demo.terminal.transfers import Transfers
from aldis.mobile_client_demo.wire import Item, Presence, Receipt, Typing

logger = logging.getLogger(__name__)

AGAIN = 5.0
"""Seconds after a fault, such as a full disk, before it is tried again."""
LOOK = 0.25
PAGE = 50
REMEMBERED = 100
WORDS = {
    "friend_request": "{from} wants to be a friend: /accept {from}", "friend_accepted": "{user_id} is a friend now",
    "friend_removed": "{user_id} is no friend any more", "account_deleted": "{user_id} has deleted the account",
    "key_rotated": "the key with {user_id} is now version {version}",
    "seal_changed": "who wants sealed keys with {user_id} has changed: /seal",
    "device_keys_changed": "{user_id} has other devices than before: compare the safety number, /verify",
    "broadcast": "The server says: {text}",
}  # fmt: skip
NOT_SENT = (NoKey, Distrusted, CannotDecrypt, OutboxFull, Stopped, RestError, NoLogin, sqlite3.Error, ValueError)


class Engine:
    """`start` once, `stop` once."""

    def __init__(
        self, account: Account, access: Access, mqtt: str, tls: ssl.SSLContext | None, post: Callable[[e.Event], None]
    ) -> None:
        self._account, self._access, self._mqtt, self._tls, self._post = account, access, mqtt, tls, post
        self._me = account.user
        self._archive = self._opened_archive()
        self._known: dict[str, Contact] = {one.user: one for one in self._archive.contacts()}
        self._bot: Bot | None = None
        self._prefix = "?"
        self._held: dict[str, Handle] = {}
        self._lost: list[tuple[str, Line]] = []
        self._deeds = Deeds(account.user, access, lambda: self._bot, post)
        self._transfers = Transfers(access, post)
        self._orders: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"chat-{name}", daemon=True)
            for name, work in (("bot", self._keep), ("orders", self._work), ("looks", self._look))
        ]

    def start(self) -> None:
        """Returns when what was left by earlier runs was posted. Raises `NotOurs`."""
        contacts = tuple(self._known.values()) or (Contact(self._me, standing="self"),)
        last = {one.user: self._archive.lines(one.user, limit=1) for one in contacts}
        waiting: dict[str, list[Line]] = {}
        for peer, line in self._archive.waiting():
            waiting.setdefault(peer, []).append(line)
        lines = {peer: (*last.get(peer, ()), *waiting.get(peer, ())) for peer in {*last, *waiting}}
        self._post(e.Remembered(contacts, {peer: found for peer, found in lines.items() if found}))
        for note in self._account.notes:
            self._post(e.Told(note, bad=True))
        self._bot = self._made()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """What was entered is in the outbox when it returns, unless that takes longer than `timeout` seconds."""
        self._transfers.cancel_all()
        self._orders.put(None)
        if self._threads[1].is_alive():
            self._threads[1].join(timeout)
        self._stopping.set()
        bot = self._bot
        if bot is not None:
            bot.stop(timeout)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout)
        self._archive.close()

    def perform(self, effect: e.Effect) -> None:
        """Returns at once; what becomes of it is posted."""
        match effect:
            case e.Send(to, text):
                self._orders.put(lambda: self._send(to, text))
            case e.SayRead(peer, mid):
                self._orders.put(lambda: self._say_read(peer, mid))
            case e.SendFile(to, path):
                self._transfers.send(to, path, lambda file: self._send_file(to, file))
            case e.Save(file, path):
                self._transfers.save(file, path)
            case e.Cancel(number):
                self._transfers.cancel(number)
            case e.Load(peer, before):
                self._beside(lambda: self._load(peer, before))
            case e.Do():
                self._beside(lambda: self._deeds.do(effect))

    def typing(self, to: str) -> None:
        def tell() -> None:
            if self._bot is not None:
                self._bot.typing(to)

        self._orders.put(tell)

    # The bot, made anew after a fault

    def _opened_archive(self) -> Archive:
        try:
            return Archive(self._account.archive)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            self._account.put_aside(self._account.archive, error)
            return Archive(self._account.archive)

    def _made(self) -> Bot:
        account = self._account

        def made() -> Bot:
            return Bot(
                account.user, account.device, file=account.outbox, mqtt=self._mqtt, tls=self._tls, access=self._access
            )

        try:
            bot = made()
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            account.put_aside(account.outbox, error)
            self._post(e.Told(account.notes[-1], bad=True))
            bot = made()
        bot.on_message(self._arrived)
        bot.on_sync(self._arrived)
        bot.on_system(self._told)
        bot.on_receipt(self._progressed)
        bot.on_presence(self._present)
        bot.on_typing(self._typed)
        bot.on_online(lambda: self._beside(self._online))
        self._prefix = bot.prefix
        self._take_up(bot)
        return bot

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                bot = self._bot = self._bot or self._made()
                bot.run()
                return
            except NotAllowed as refusal:
                self._post(e.Over(str(refusal)))
                return
            except Exception as fault:
                if self._stopping.is_set():
                    return
                logger.exception("the chat begins again")
                self._bot = None
                self._post(e.Told(f"{words(fault)}; trying again in {AGAIN:g} s", bad=True))
                self._stopping.wait(AGAIN)

    def _look(self) -> None:
        """Tells how the connection stands, whenever that changes."""
        before = None
        while not self._stopping.wait(LOOK):
            bot = self._bot
            if bot is None:
                now = e.Linked(False, "starting again", 0, before.waiting if before else 0)
            else:
                link = bot.link
                left = link.retry_at - time.monotonic() if link.retry_at else 0.0
                at = round(time.time() + left) * 1000 if left > 0 else 0
                now = e.Linked(link.online, link.why, at, bot.count_waiting())
            if now != before:
                before = now
                self._post(now)

    def _work(self) -> None:
        """What was entered, in the order in which it was."""
        while (order := self._orders.get()) is not None:
            try:
                order()
            except Exception as fault:
                logger.exception("an order failed")
                self._post(e.Told(words(fault), bad=True))

    def _beside(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except (RestError, NoLogin, sqlite3.Error) as error:
                logger.warning("a call failed: %s", error)
            except Exception as fault:
                logger.exception("a call failed")
                self._post(e.Told(words(fault), bad=True))

        threading.Thread(target=run, name="chat-call", daemon=True).start()

    # What was entered

    def _send(self, to: str, text: str) -> None:
        bot = self._bot
        try:
            if bot is None:
                raise Stopped("the chat is starting again")
            handle = bot.send(to, text, encrypted=to != self._me)
        except NOT_SENT as error:
            self._post(e.NotQueued(f"not taken: {words(error)}", text))
            return
        self._queued(handle, "text", text)

    def _send_file(self, to: str, file: FileMessage) -> None:
        bot = self._bot
        try:
            if bot is None:
                raise Stopped("the chat is starting again")
            handle = bot.send(to, file.body(), "file", encrypted=to != self._me)
        except NOT_SENT as error:
            self._post(e.Told(f"{file.name} was not sent: {words(error)}", bad=True))
            return
        self._queued(handle, "file", file.body())

    def _queued(self, handle: Handle, kind: str, body: str) -> None:
        now = time.time_ns() // 1_000_000
        line = line_of(mine=True, mid=handle.mid, id=handle.id, ts=now, kind=kind, body=body)
        try:
            self._archive.take(handle.to, [line])
        finally:  # it is in the outbox, whatever became of the copy
            self._post(e.Queued(handle.to, line))
            self._follow(handle)

    def _follow(self, handle: Handle) -> None:
        self._held[handle.id] = handle
        handle.sent.then(lambda mid, fault: self._orders.put(lambda: self._settled(handle, mid, fault)))

    def _settled(self, handle: Handle, mid: int, fault: Exception | None) -> None:
        self._held.pop(handle.id, None)
        if fault is not None and not isinstance(fault, SendFailed):
            return
        failed = fault.reason if isinstance(fault, SendFailed) else ""
        self._post(e.Settled(handle.to, handle.id, mid, failed))
        self._archive.settled(handle.id, mid=mid, failed=failed)

    def _say_read(self, peer: str, mid: int) -> None:
        self._archive.shown(peer, mid)
        if self._bot is not None:
            self._bot.say_read(peer, mid)

    def _take_up(self, bot: Bot) -> None:
        """What waits in the outbox since an earlier run, and what waits no more though nobody has said why."""
        kept, waiting = self._archive.waiting(), bot.waiting()
        known, open_ids = {line.id for _, line in kept}, {handle.id for handle in waiting}
        self._lost = [(peer, line) for peer, line in kept if line.id not in open_ids]
        for handle in waiting:
            if handle.id not in known:  # killed between the two files
                said = bot.decrypt(Item("chat", self._me, handle.to, 0, 0, 0, handle.content))
                line = self._line(said, time.time_ns() // 1_000_000)
                self._archive.take(handle.to, [line])
                self._post(e.Queued(handle.to, line))
            self._follow(handle)

    # What arrives; in the thread of the handlers

    def _arrived(self, message: Message) -> None:
        mine = message.sender == self._me
        peer = message.to if mine else message.sender
        line = self._line(message, message.item.ts)
        try:
            unread = self._archive.arrived(peer, line)
            if mine:
                self._archive.shown(peer, line.mid)
        except sqlite3.Error as error:
            raise NotTaken(f"messages cannot be kept: {words(error)}") from error
        self._post(e.Arrived(peer, line, unread))

    def _line(self, message: Message, ts: int) -> Line:
        mine = message.sender == self._me
        id = message.item.id if mine and self._is_ours(message.item.id) else ""
        body = message.body if isinstance(message.body, str) else json.dumps(message.body, ensure_ascii=False)
        return line_of(
            mine=mine, mid=message.mid, id=str(id), ts=ts, kind=message.type, body="" if message.problem else body,
            problem=message.problem,
        )  # fmt: skip

    def _is_ours(self, id: object) -> bool:
        return isinstance(id, str) and id.startswith(f"{self._prefix}-")

    def _told(self, item: Item) -> None:
        kind = str(item.content.get("type"))
        if kind.startswith(("friend_", "account_")):
            self._beside(self._deeds.tell_people)
        if kind in WORDS:
            said = {name: str(value)[:2_000] for name, value in item.content.items()}
            self._post(
                e.Told(WORDS[kind].format_map({"from": "?", "user_id": "?", "text": "?", "version": "?"} | said))
            )

    def _progressed(self, receipt: Receipt) -> None:
        if receipt.type not in ("delivered", "read"):
            return
        contact = self._known.get(receipt.peer, Contact(receipt.peer))
        delivered = receipt.up_to
        read = receipt.up_to if receipt.type == "read" else contact.read
        if delivered <= contact.delivered and read <= contact.read:
            return
        self._archive.progressed(receipt.peer, delivered, read)
        self._known[receipt.peer] = Contact(
            receipt.peer, delivered=max(delivered, contact.delivered), read=max(read, contact.read)
        )
        self._post(e.Progressed(receipt.peer, delivered, read))

    def _present(self, presence: Presence) -> None:
        self._post(e.Present(presence.friend, presence.online, presence.last_seen))

    def _typed(self, typing: Typing) -> None:
        self._post(e.Typing(typing.friend))

    # REST

    def _online(self) -> None:
        everybody = self._deeds.tell_people()
        self._archive.people((user, name, standing) for user, (name, standing) in everybody.everybody.items())
        while self._lost:
            peer = self._lost[0][0]
            self._find_lost(peer, [line for one, line in self._lost if one == peer])
            self._lost = [(one, line) for one, line in self._lost if one != peer]

    def _find_lost(self, peer: str, lines: list[Line]) -> None:
        """Answered, but killed before that was written down here: the history knows."""
        bot = self._bot
        if bot is None:
            return
        found = {message.item.id: message.mid for message in bot.history(peer, limit=100)[0]}
        for line in lines:
            mid = found.get(line.id, 0)
            self._archive.settled(line.id, mid=mid, failed="" if mid else "unknown")
            self._post(e.Settled(peer, line.id, mid, "" if mid else "unknown"))

    def _load(self, peer: str, before: int) -> None:
        if not before:
            self._post(e.Loaded(peer, 0, self._archive.lines(peer, limit=REMEMBERED), None))
        try:
            if self._bot is None:
                raise NoLogin("starting again")
            messages, above = self._bot.history(peer, before=before, limit=PAGE)
        except (RestError, NoLogin) as error:
            kept = self._archive.lines(peer, below=before) if before else ()
            if kept:
                self._post(e.Loaded(peer, before, kept, kept[0].mid))
            else:
                self._post(e.NotLoaded(peer, f"older messages cannot be had now: {words(error)}"))
            return
        lines = tuple(self._line(message, message.item.ts) for message in messages)
        self._post(e.Loaded(peer, before, lines, above))
        self._archive.take(peer, lines)


def words(fault: BaseException) -> str:
    """A fault for people."""
    text = str(fault) or type(fault).__name__
    if isinstance(fault, sqlite3.Error) and ("full" in text or "disk I/O" in text):
        return f"the disk is full or fails ({text})"
    return text
