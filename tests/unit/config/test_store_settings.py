"""The settings of the store: what is refused, and that the database's address is never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from aldis.config.effective import effective
from aldis.config.layers import Layers
from aldis.config.settings import PROFILES, Settings, SettingsError, load

URL = "mysql://aldis:hush@db.example.org:3306/aldis"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALDIS_STORE__URL", "ALDIS_STORE__PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def with_store(**store: Any) -> Settings:
    return load("embedded", {"store": store})


def test_the_profiles_differ_in_what_they_are_for_only() -> None:
    names = ("embedded", "mysql", "node", "accounts")
    embedded, mysql, node, accounts = (yaml.safe_load((PROFILES / f"{name}.yaml").read_text()) for name in names)
    assert embedded.pop("store") == {"backend": "sqlite"}
    assert mysql.pop("store") == (database := node.pop("store"))
    assert mysql == embedded
    assert node.pop("cluster") == (cluster := {"redis_url": "redis://127.0.0.1:6379/0"})
    assert node | {"http": mysql["http"]} == mysql
    assert accounts.pop("plugins").items() <= embedded["plugins"].items()
    assert accounts == {"data": "data", "http": mysql["http"], "store": database, "cluster": cluster}
    store = load("mysql").store
    assert store.url is not None and store.url.get_secret_value() == "mysql://aldis@127.0.0.1:3306/aldis"


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "mariadb://aldis@10.0.0.1/aldis",
        "mysql://aldis:a%2Fb%40c@[::1]:3306/aldis",
        "mysql://aldis@localhost/aldis?unix_socket=/run/mysqld/mysqld.sock",
    ],
)
def test_good_addresses(url: str) -> None:
    store = with_store(backend="mysql", url=url).store
    assert store.url is not None and store.url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://aldis:hush@db/aldis",
        "mysql+pymysql://aldis:hush@db/aldis",
        "mysql://db/aldis",
        "mysql://aldis:hush@db",
        "mysql://aldis:hush@db/",
        "mysql://aldis:hush@db/aldis/more",
        "mysql://aldis:hush@db:port/aldis",
        "mysql://aldis:hush/@db/aldis",
        "mysql://aldis:hush@db/aldis?charset=latin1",
        "mysql://aldis:hush@db/aldis#hush",
        "hush",
        "",
    ],
)
def test_bad_addresses_are_refused_and_not_repeated(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^store\.url: .*\(from command line\)") as refused:
        with_store(backend="mysql", url=url)
    assert "hush" not in str(refused.value)
    monkeypatch.setenv("ALDIS_STORE__URL", url)
    with pytest.raises(SettingsError, match=r"store\.url: .*\(from variable ALDIS_STORE__URL\)") as refused:
        load("mysql")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("store", [URL, [URL], {"backend": "mysql", "urll": URL}, {"backend": "mysql", "url": [URL]}])
def test_an_address_in_the_wrong_place_is_not_repeated_either(store: Any) -> None:
    with pytest.raises(SettingsError, match="store") as refused:
        load("embedded", {"store": store})
    assert "hush" not in str(refused.value)


def test_the_address_is_not_shown() -> None:
    settings = with_store(backend="mysql", url=URL)
    assert "hush" not in repr(settings) and "hush" not in str(settings.model_dump())
    shown = {one.key: one.value for one in effective(settings, Layers([]))}
    assert "hush" not in str(shown) and "db.example.org" not in str(shown)
    assert shown["store.backend"] == "mysql"


@pytest.mark.parametrize(
    ("store", "complaint"),
    [
        ({"backend": "mysql"}, r"store\.url: must be given where store\.backend is mysql"),
        ({"url": URL}, r"store\.url: has no meaning where store\.backend is sqlite"),
        ({"backend": "none", "tls": {}}, r"store\.tls: has no meaning where store\.backend is none"),
        (
            {"backend": "mysql", "url": URL, "password_file": "pw"},
            r"store\.password_file: there is a password in store",
        ),
        ({"backend": "mysql", "url": URL, "tls": {"ca_file": "none"}}, r"store\.tls\.ca_file: there is no file none"),
        ({"backend": "mysql", "url": URL, "tls": {"certfile": "pw"}}, r"store\.tls: certfile and keyfile go together"),
        ({"backend": "mysql", "url": URL, "pool_size": 0}, r"store\.pool_size: .*greater than 0"),
        ({"backend": "mysql", "url": URL, "answer_timeout": 0}, r"store\.answer_timeout: .*greater than 0"),
        ({"backend": "mysql", "url": URL, "connect_timeout": -1}, r"store\.connect_timeout: .*greater than 0"),
        ({"backend": "postgres"}, r"store\.backend: .*'mysql'"),
    ],
)
def test_what_does_not_go_together(store: dict[str, Any], complaint: str) -> None:
    Path("pw").write_text("word\n")
    Path("pw").chmod(0o600)
    with pytest.raises(SettingsError, match=complaint):
        load("embedded", {"store": store})


def test_a_password_file_that_everybody_may_read() -> None:
    Path("pw").write_text("word\n")
    Path("pw").chmod(0o644)
    with pytest.raises(SettingsError, match=r"store\.password_file: pw has mode 0644"):
        load("mysql", {"store": {"password_file": "pw"}})
    Path("pw").chmod(0o640)
    assert load("mysql", {"store": {"password_file": "pw"}}).store.password_file == Path("pw")
