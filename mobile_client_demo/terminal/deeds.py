"""What `/add`, `/devices` and the like do: calls of the REST API, and what to tell the one who typed them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from aldis.mobile_client_demo import people
from aldis.mobile_client_demo.bot import Bot
from aldis.mobile_client_demo.bot.access import Access, NoLogin
from aldis.mobile_client_demo.encryption import CannotDecrypt
from aldis.mobile_client_demo.rest import Refused, RestError, Unreachable
from aldis.mobile_client_demo.sealed_device import Distrusted
from aldis.mobile_client_demo.terminal.events import Answer, Do, Event, People, Told
from aldis.mobile_client_demo.terminal.look import Look
from aldis.mobile_client_demo.terminal.state import Standing


class Deeds:
    """Each takes as long as the network does, and raises nothing."""

    def __init__(self, user: str, access: Access, bot: Callable[[], Bot | None], post: Callable[[Event], None]) -> None:
        self._user, self._access, self._bot, self._post = user, access, bot, post
        self._reading = threading.Lock()

    def do(self, order: Do) -> None:
        try:
            answer = getattr(self, f"_{order.deed}")(order.about, order.more)
        except Unreachable as error:
            answer = Told(f"not now, the server cannot be reached: {error}", bad=True)
        except Refused as refusal:
            answer = Told(f"the server says no: {refusal.detail or refusal.title}", bad=True)
        except (RestError, NoLogin, CannotDecrypt) as error:
            answer = Told(str(error), bad=True)
        except Distrusted as error:
            answer = Told(f"{error}. Compare the safety number first: /verify", bad=True)
        self._post(answer)

    def tell_people(self) -> People:
        """Posts everybody there is. One reading after the other, so that what is told last is what is true last. Raises
        `RestError`, `NoLogin`."""
        with self._reading:
            everybody = self._people()
            self._post(everybody)
            return everybody

    def _people(self) -> People:
        relations = self._access.call(lambda rest, login: rest.relations(login))
        asking = self._access.call(people.requests)
        bot = self._bot()
        if bot is not None:
            bot.offer_keys(relations)
        everybody: dict[str, tuple[str, Standing]] = {self._user: ("", "self")}
        everybody |= {user: (name, "asked") for user, name in asking.outgoing.items()}
        everybody |= {user: (name, "asks") for user, name in asking.incoming.items()}
        for one in relations:
            friend: Standing = "past" if one.deleted else "friend"
            everybody[one.friend] = (one.name, "blocked" if one.state == "blocked" else friend)
        return People(everybody)

    def _about(self, call: Callable[..., None], user: str, told: str) -> Event:
        self._access.call(lambda rest, login: call(rest, login, user))
        self.tell_people()
        return Told(told)

    def _add(self, user: str, _: str) -> Event:
        return self._about(lambda rest, login, to: rest.request_friend(login, to), user, f"{user} was asked")

    def _accept(self, user: str, _: str) -> Event:
        return self._about(lambda rest, login, to: rest.accept_friend(login, to), user, f"{user} is a friend now")

    def _decline(self, user: str, _: str) -> Event:
        return self._about(people.decline, user, f"the request of {user} is declined")

    def _remove(self, user: str, _: str) -> Event:
        return self._about(people.remove_friend, user, f"{user} is no friend any more")

    def _block(self, user: str, _: str) -> Event:
        return self._about(people.block, user, f"{user} is blocked")

    def _unblock(self, user: str, _: str) -> Event:
        return self._about(people.unblock, user, f"{user} is not blocked any more")

    def _devices(self, _about: str, _more: str) -> Event:
        look = Look()
        rows = []
        for one in self._access.call(people.devices):
            moment = f"{look.moment(one.last_seen):%d.%m.%Y %H:%M}" if one.last_seen else "never"
            what = [
                *(["this one"] if one.current else []), *(["logged in"] if one.logged_in else []),
                *([f"{one.tokens} token{'s' * (one.tokens > 1)}"] if one.tokens else []), f"last seen {moment}",
            ]  # fmt: skip
            rows.append(f"{one.device}{f' ({one.name})' if one.name else ''}: {', '.join(what)}")
        return Answer("Your devices", (*rows, "", "/kick DEVICE logs one out and removes it."))

    def _kick(self, device: str, _: str) -> Event:
        self._access.call(lambda rest, login: rest.remove_device(login, device))
        return Told(f"{device} is logged out and removed")

    def _rotate(self, friend: str, _: str) -> Event:
        return Told(f"the key with {friend} is now version {self._present().rotate_key(friend)}")

    def _verify(self, friend: str, number: str) -> Event:
        bot = self._present()
        bot.register_key()
        if number:
            bot.confirm(friend, " ".join(number[start : start + 5] for start in range(0, len(number), 5)))
            return Told(f"the devices of {friend} and yours are confirmed")
        groups = bot.safety_number(friend).split()
        rows = tuple("  ".join(groups[start : start + 4]) for start in range(0, len(groups), 4))
        return Answer(f"Safety number with {friend}", (
            *rows, "", f"Compare it with what {friend} sees, on the phone or side by side, not through this server.",
            "If it is the same: /verify and the number. It changes with every device that registers a key.",
        ))  # fmt: skip

    def _seal(self, friend: str, _: str) -> Event:
        bot = self._present()
        bot.register_key()
        if bot.seal(friend):
            return Told(f"what you and {friend} write from now on is sealed: the server has no key for it")
        return Told(f"said; it is sealed when {friend} wants it too, and you have compared the safety number")

    def _present(self) -> Bot:
        bot = self._bot()
        if bot is None:
            raise NoLogin("not now: starting again")
        return bot
