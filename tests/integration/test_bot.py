"""The bot kit against a real `aldis up`, with servers and bots that are killed in the middle."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aldis.mobile_client_demo.bot import (
    AsyncBot,
    Bot,
    Message,
    NotAllowed,
    NotTaken,
    OutboxFull,
    SendFailed,
    Stopped,
    Will,
)
from aldis.mobile_client_demo.bot.connection import Connection
from aldis.mobile_client_demo.bot.core import Limits
from aldis.mobile_client_demo.bot.handlers import DeviceMessage
from aldis.mobile_client_demo.wire import Item, Presence, Receipt
from tests.integration.bots import PATIENCE, bodies, collecting, friends, how, own_server, program, until
from tests.servers import Aldis, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_a_conversation_with_ticks_filters_and_encryption(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    receipts: list[Receipt] = []
    alerts: list[Message] = []
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:
        got = collecting(person)
        person.on_receipt(receipts.append, type="read", sender="echo-*")
        bot.on_message(alerts.append, type="alert", sender=ada)

        @bot.on_message(type="text")
        def answer(message: Message) -> None:
            bot.reply(message, message.body)
            bot.read(message)

        handle = person.send(echo, "Grüße 💡", encrypted=True, colour="red")
        mid = handle.sent.wait(PATIENCE)
        assert handle.delivered.wait(PATIENCE) == handle.read.wait(PATIENCE) == mid == handle.mid
        person.send(echo, {"level": 3}, "alert").delivered.wait(PATIENCE)
        until(lambda: got and alerts and receipts)
        assert bodies(got) == ["Grüße 💡"] and got[0].encrypted
        assert bodies(alerts) == [{"level": 3}]
        with pytest.raises(SendFailed, match="not_friend"):
            person.send("nobody", "hi").sent.wait(PATIENCE)
    with pytest.raises(Stopped):
        person.send(echo, "late")


def test_a_handler_that_fails_is_logged_and_the_bot_goes_on(
    server: Aldis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:

        @bot.on_message
        def fail(message: Message) -> None:
            if message.body == "bad":
                raise LookupError("on purpose")

        got = collecting(bot)
        bad = person.send(echo, "bad")
        person.send(echo, "good").delivered.wait(PATIENCE)
        assert bad.delivered and bodies(got) == ["bad", "good"]
    assert "LookupError: on purpose" in caplog.text


def test_an_item_is_acknowledged_only_after_its_handler(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    may_end = threading.Event()
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:
        begun = threading.Event()

        @bot.on_message
        def slow(_: Message) -> None:
            begun.set()
            may_end.wait(PATIENCE)

        handle = person.send(echo, "x")
        assert begun.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            handle.delivered.wait(0.5)
        may_end.set()
        handle.delivered.wait(PATIENCE)


def test_what_was_handled_but_not_acknowledged_is_not_handled_again(
    server: Aldis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, ada)) as person:
        with Bot(**how(server, tmp_path, echo)) as bot:
            got = collecting(bot)
            monkeypatch.setattr(Connection, "acknowledge", lambda *_: None)
            handle = person.send(echo, "once")
            until(lambda: got)
        assert not handle.delivered
        monkeypatch.undo()
        again = Bot(**how(server, tmp_path, echo))
        repeated = collecting(again)
        with again:
            handle.delivered.wait(PATIENCE)
        assert repeated == []


def test_an_item_that_a_handler_cannot_take_comes_again(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, ada)) as person:
        bot = Bot(**how(server, tmp_path, echo))

        @bot.on_message
        def full(_: Message) -> None:
            raise NotTaken("the disk is full")

        handle = person.send(echo, "keep me")
        with pytest.raises(NotTaken, match="full"):
            bot.run()
        assert not handle.delivered
        again = Bot(**how(server, tmp_path, echo))
        got = collecting(again)
        with again:
            handle.delivered.wait(PATIENCE)
        assert bodies(got) == ["keep me"]


@pytest.mark.timeout(120)
def test_the_link_says_why_it_is_down_and_when_it_tries_again(tmp_path: Path) -> None:
    with own_server(tmp_path) as server:
        with Bot(**how(server, tmp_path, "ada")) as person, Bot(**how(server, tmp_path, "echo")) as bot:
            bot.on_message(bot.read)
            mid = person.send("echo", "x").read.wait(PATIENCE)
            until(lambda: person.progress("echo").delivered == person.progress("echo").read == mid)
            assert person.link.online
            server.kill()
            until(lambda: person.link.retry_at > time.monotonic())
            assert not person.link.online and person.link.why
            server.start()
            until(lambda: person.link.online and not person.link.retry_at)
        server.stop()


def test_an_orderly_stop_leaves_the_will_unsaid(server: Aldis, tmp_path: Path) -> None:
    ada, _ = friends(server)
    seen: list[DeviceMessage] = []
    desk = Bot(**how(server, tmp_path, ada, "desk"))
    desk.on_device("#")(seen.append)
    with desk:
        with Bot(**how(server, tmp_path, ada, "thing"), will=Will("status")) as thing:
            assert desk.wait_online(PATIENCE) and thing.wait_online(PATIENCE)
            thing.report("status", "online")
            until(lambda: seen)
        server.logged(f"connection ended: client disconnected .*user='{ada}' device='thing'")
        time.sleep(0.3)
        assert [one.payload for one in seen] == [b"online"]


def test_what_was_sent_offline_goes_out_once_and_in_order(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    offline = how(server, tmp_path, echo) | {"mqtt": "127.0.0.1:1"}
    early = Bot(**offline, limits=Limits(outbox=30))
    for number in range(30):
        early.send(ada, str(number))
    with pytest.raises(OutboxFull):
        early.send(ada, "one too many")
    early.stop()
    with Bot(**how(server, tmp_path, ada)) as person:
        got = collecting(person)
        with Bot(**how(server, tmp_path, echo)) as bot:
            assert len(bot.waiting()) == 30
            bot.send(ada, "last").delivered.wait(PATIENCE)
            assert bot.waiting() == []
        assert bodies(got) == [*map(str, range(30)), "last"]


@pytest.mark.timeout(120)
def test_the_server_is_killed_and_comes_back_in_mid_conversation(tmp_path: Path) -> None:
    with own_server(tmp_path) as server:
        with Bot(**how(server, tmp_path, "ada")) as person, Bot(**how(server, tmp_path, "echo")) as bot:
            got = collecting(person)
            seen = collecting(bot)
            bot.on_message(lambda message: bot.reply(message, message.body))
            for number in range(60):
                person.send("echo", str(number), ordered=True)
                if number == 20:
                    until(lambda: len(got) > 5)
                    server.kill()
            assert person.waiting() != []
            server.start()
            person.send("echo", "end", ordered=True).delivered.wait(PATIENCE)
            until(lambda: "end" in bodies(got))
            expected = [*map(str, range(60)), "end"]
            assert bodies(seen) == expected
            assert bodies(got) == expected
        server.stop()


@pytest.mark.timeout(120)
def test_a_bot_killed_in_its_handler_answers_everything_once(tmp_path: Path) -> None:
    with own_server(tmp_path) as server, Bot(**how(server, tmp_path, "ada")) as person:
        got = collecting(person)
        for number in range(5):
            person.send("echo", str(number))
        first = program("answering", server, tmp_path, "echo")
        assert first.wait(PATIENCE) == -9
        until(lambda: "first 2" in bodies(got))
        second = program("answering", server, tmp_path, "echo")
        try:
            until(lambda: "second 4" in bodies(got))
            assert bodies(got) == [f"{which} {number}" for number in range(5) for which in ("first", "second")]
        finally:
            second.terminate()
        assert second.wait(PATIENCE) == 0


@pytest.mark.timeout(120)
def test_what_a_killed_bot_had_said_to_have_sent_arrives_once(tmp_path: Path) -> None:
    with own_server(tmp_path) as server, Bot(**how(server, tmp_path, "ada")) as person:
        got = collecting(person)
        sender = program("sending", server, tmp_path, "echo")
        assert sender.stdout is not None
        said = [next(sender.stdout) for _ in range(150)]
        sender.kill()
        said += sender.stdout.readlines()
        sender.wait(PATIENCE)
        count = len(said)
        with Bot(**how(server, tmp_path, "echo")) as again:
            until(lambda: not again.waiting())
            again.send("ada", "end").delivered.wait(PATIENCE)
            until(lambda: "end" in bodies(got))
        arrived = bodies(got)[:-1]
        # One more may be on disk: it was killed before it could say so.
        assert sorted(map(int, arrived)) in (list(range(count)), list(range(count + 1)))
        for rest in ([0], [1, 2]):
            mine = [int(body) for body in arrived if int(body) % 3 in rest]
            assert mine == sorted(mine)


def test_two_devices_of_one_bot_and_its_words_of_the_server(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    presence: list[Presence] = []
    system: list[Item] = []
    copies: list[Message] = []
    with Bot(**how(server, tmp_path, echo, "one")) as one, Bot(**how(server, tmp_path, echo, "two")) as two:
        got = [collecting(one), collecting(two)]
        two.on_sync(copies.append)
        one.on_presence(presence.append, sender=ada)
        one.on_system(system.append, type="key_rotated")
        assert one.wait_online(PATIENCE) and two.wait_online(PATIENCE)
        with Bot(**how(server, tmp_path, ada)) as person:
            person.send(echo, "to both").delivered.wait(PATIENCE)
            until(lambda: all(bodies(each) == ["to both"] for each in got))
            one.send(ada, "from one", encrypted=True).sent.wait(PATIENCE)
            until(lambda: bodies(copies) == ["from one"])
            assert presence[-1] == Presence(ada, True)
            key = one._access.call(lambda rest, login: rest.rotate_key(login, ada, 1))
            until(lambda: system)
            assert system[0].content["version"] == key.newest


def test_plain_mqtt_below_devices_and_a_token_that_is_revoked(server: Aldis, tmp_path: Path) -> None:
    ada, _ = friends(server)
    login = server.login(ada, "desk")
    made = server.rest("POST", "/v1/tokens", {"device_id": "esp", "name": "sensor"}, login)
    given = how(server, tmp_path, ada, "esp") | {"password": "", "token": made["token"]}
    bot, got = Bot(**given), list[DeviceMessage]()
    bot.on_device("command/+")(got.append)
    assert not bot.report("status", "online"), "offline, it cannot be reported"
    ended: list[Exception] = []

    def run() -> None:
        try:
            bot.run()
        except NotAllowed as refusal:
            ended.append(refusal)

    thread = threading.Thread(target=run)
    thread.start()
    assert bot.wait_online(PATIENCE)
    with Bot(**how(server, tmp_path, ada, "desk2")) as desk:
        assert desk.wait_online(PATIENCE) and desk.report("command/interval", "5")
        until(lambda: got)
    assert [(one.topic, one.payload) for one in got] == [("command/interval", b"5")]
    server.rest("DELETE", f"/v1/tokens/{made['token_id']}", token=login)
    thread.join(PATIENCE)
    assert len(ended) == 1 and not thread.is_alive()


async def test_the_asyncio_face_has_the_same_promises(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    got: list[Message] = []
    async with AsyncBot(**how(server, tmp_path, ada)) as person, AsyncBot(**how(server, tmp_path, echo)) as bot:

        @bot.on_message(type="text")
        async def answer(message: Message) -> None:
            await asyncio.sleep(0)
            assert asyncio.get_running_loop()
            handle = await bot.reply(message, f"re {message.body}")
            assert f"-{message.n}.0.1" in handle.id
            await bot.read(message)

        person.on_message(got.append)
        handles = [await person.send(echo, str(number), encrypted=True) for number in range(3)]
        mids = await asyncio.wait_for(asyncio.gather(*(_all(handle) for handle in handles)), PATIENCE)
        assert mids == sorted(mids)
        await asyncio.to_thread(until, lambda: len(got) == 3)
        assert bodies(got) == ["re 0", "re 1", "re 2"]


async def _all(handle: Any) -> int:
    await handle.sent
    await handle.delivered
    mid: int = await handle.read
    return mid
