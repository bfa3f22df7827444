"""The settings of the web chat: what is refused by name, and where it is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aldis.config.settings import Settings, SettingsError, load, serves_web


def with_web(**web: Any) -> Settings:
    return load("embedded", {"web": web})


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:8083",
        "wss://chat.example.org",
        "wss://chat.example.org/mqtt",
        "wss://chat.example.org:443/a/b-c_d.e~f/",
        "ws://[::1]:8083/mqtt",
    ],
)
def test_where_mqtt_may_be(url: str) -> None:
    assert with_web(mqtt_url=url).web.mqtt_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://chat.example.org",
        "chat.example.org:8083",
        "wss://",
        "wss://user:secret@chat.example.org/",
        "wss://chat.example.org/?token=1",
        "wss://chat.example.org/#x",
        "wss://chat.example.org; script-src *",
        "wss://chat.example.org *",
        "wss://chat.example.org\n",
        "wss://chat.example.org:0",
        "wss://chat.example.org:65536",
        "wss://*.example.org",
        "wss://chät.example.org",
    ],
)
def test_what_is_no_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        with_web(mqtt_url=url)
    assert str(refused.value).startswith("web.mqtt_url: ")


def test_a_misspelt_key_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^web\.mqtt_ulr: unknown setting"):
        with_web(mqtt_ulr="wss://chat.example.org")


def test_a_page_with_tls_does_not_talk_without(tmp_path: Path) -> None:
    for name in ("server.pem", "server.key"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    tls = {"certfile": tmp_path / "server.pem", "keyfile": tmp_path / "server.key"}
    given: dict[str, Any] = {"http": {"tls": tls}, "web": {"mqtt_url": "ws://127.0.0.1:8083"}}
    with pytest.raises(SettingsError, match=r"^web\.mqtt_url: must begin with wss://"):
        load("embedded", given)
    # it says nothing where there is no page
    load("embedded", {**given, "web": {**given["web"], "enabled": False}})
    load("embedded", {**given, "web": {"mqtt_url": "wss://127.0.0.1:8083"}})


def test_it_is_served_where_the_rest_api_is_unless_switched_off() -> None:
    assert serves_web(load("embedded")) and serves_web(load("mysql")) and serves_web(load("accounts"))
    assert not serves_web(with_web(enabled=False))
    assert not serves_web(load("lab"))
    assert not serves_web(load("node", {"accounts": {"enabled": False}}))
