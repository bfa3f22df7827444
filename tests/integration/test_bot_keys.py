"""What bots encrypt: texts while keys change, sealed relations, files, against a real `aldis up`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aldis.mobile_client_demo.bot import Bot, Message
from aldis.mobile_client_demo.sealed_device import Distrusted
from aldis.mobile_client_demo.wire import Item
from tests.integration.bots import PATIENCE, bodies, collecting, friends, how, until
from tests.servers import Aldis, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aldis]:
    with running(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_keys_are_changed_in_mid_conversation(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:
        got = collecting(bot)
        told: list[Item] = []
        person.on_system(told.append, type="key_rotated")
        for number in range(12):
            person.send(echo, str(number), encrypted=True)
            if number in (3, 7):
                bot._access.call(lambda rest, login: rest.rotate_key(login, ada, number // 4 + 1))  # noqa: B023
                until(lambda: len(told) == number // 4 + 1)  # noqa: B023
        until(lambda: len(got) == 12)
        assert bodies(got) == [*map(str, range(12))]
        assert [message.item.content["enc"]["v"] for message in got] == [1] * 4 + [2] * 4 + [3] * 4


def test_offline_texts_are_encrypted_under_a_key_that_was_kept(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, echo)) as bot:
        bot.send(ada, "one", encrypted=True).sent.wait(PATIENCE)
    nobody = Bot(**how(server, tmp_path, echo) | {"mqtt": "127.0.0.1:1", "api": "http://127.0.0.1:1"})
    nobody.send(ada, "two", encrypted=True)
    nobody.stop()
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)):
        got = collecting(person)
        until(lambda: bodies(got) == ["one", "two"])
        assert all(message.encrypted for message in got)


def test_a_relation_is_sealed_and_its_keys_pass_over_a_restart(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:
        person.register_key()
        bot.register_key()
        assert not person.seal(echo), "one alone seals nothing"
        with pytest.raises(Distrusted):
            bot.seal(ada)
        number = person.safety_number(echo)
        assert number == bot.safety_number(ada)
        person.confirm(echo, number)
        bot.confirm(ada, number)
        assert person.seal(echo) and bot.seal(ada)
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:
        got = collecting(bot)
        person.send(echo, "for us alone", encrypted=True).delivered.wait(PATIENCE)
        until(lambda: bodies(got) == ["for us alone"])
        assert got[0].item.content["enc"]["v"] == 2
        assert bot.rotate_key(ada) == 3
        until(lambda: person.send(echo, "again", encrypted=True).content["enc"]["v"] == 3)


def test_the_history_reads_in_pages_what_was_encrypted(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    with Bot(**how(server, tmp_path, ada)) as person:
        handles = [person.send(echo, str(number), encrypted=number % 2 == 0) for number in range(5)]
        handles[-1].sent.wait(PATIENCE)
        newest, before = person.history(echo, limit=3)
        oldest, end = person.history(echo, before=before, limit=3)
        assert bodies(oldest + newest) == [*map(str, range(5))] and end == 0
        assert before == newest[0].mid == handles[2].mid
        new = Bot(**how(server, tmp_path, echo))
        assert bodies(new.history(ada)[0]) == [*map(str, range(5))]
        new.stop()


def test_a_file_there_and_back(server: Aldis, tmp_path: Path) -> None:
    ada, echo = friends(server)
    source = tmp_path / "photo.jpg"
    source.write_bytes(bytes(range(256)) * 2_000)
    with Bot(**how(server, tmp_path, ada)) as person, Bot(**how(server, tmp_path, echo)) as bot:

        @bot.on_message(type="file")
        def take(message: Message) -> None:
            assert bot.fetch_file(message, tmp_path / "taken").name == "photo.jpg"
            bot.send_file(message.sender, tmp_path / "taken")

        got = collecting(person)
        person.send_file(echo, source, mime="image/jpeg").delivered.wait(PATIENCE)
        until(lambda: got)
        person.fetch_file(got[0], tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
