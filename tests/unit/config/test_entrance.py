"""TLS and balancers in the settings: what is wrong is refused by its key before anything is opened."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from aldis.config.settings import SettingsError, entrances, load


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in list(os.environ):
        if variable.upper().startswith("ALDIS_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    for name in ("cert.pem", "key.pem", "ca.pem"):
        Path(name).touch(0o600)


PAIR = {"certfile": "cert.pem", "keyfile": "key.pem"}


def configured(listener: dict[str, Any]) -> dict[str, Any]:
    return {"listeners": {"default": listener}}


def refusal(overrides: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        load("embedded", overrides)
    return str(caught.value)


def test_without_a_word_there_is_neither_tls_nor_a_balancer() -> None:
    for _, entrance in entrances(load("embedded")):
        assert entrance.tls is None
        assert entrance.proxy_protocol == "off"


def test_for_every_listener_and_http() -> None:
    both = {"tls": PAIR, "proxy_protocol": "required", "proxy_trusted": ["10.1.0.0/24", "::1/128"]}
    settings = load("embedded", {"listeners": {"default": both, "websocket": both}, "http": both})
    assert [key for key, _ in entrances(settings)] == [("listeners", "default"), ("listeners", "websocket"), ("http",)]
    for _, entrance in entrances(settings):
        assert entrance.tls is not None
        assert (entrance.tls.minimum_version, entrance.tls.client_certificates) == ("1.2", "none")
        assert entrance.proxy_trusted == (ip_network("10.1.0.0/24"), ip_network("::1/128"))


def test_by_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_LISTENERS__DEFAULT__TLS__CERTFILE", "cert.pem")
    monkeypatch.setenv("ALDIS_LISTENERS__DEFAULT__TLS__KEYFILE", "key.pem")
    monkeypatch.setenv("ALDIS_HTTP__PROXY_PROTOCOL", "required")
    monkeypatch.setenv("ALDIS_HTTP__PROXY_TRUSTED", '["10.0.0.0/8"]')
    settings = load("embedded")
    assert settings.listeners["default"].tls is not None
    assert settings.http.proxy_trusted == (ip_network("10.0.0.0/8"),)


def test_yaml_reads_a_bare_off_as_false() -> None:
    Path("here.yaml").write_text("listeners: {default: {proxy_protocol: off}}")
    assert load("./here.yaml").listeners["default"].proxy_protocol == "off"


@pytest.mark.parametrize(
    ("listener", "complaint"),
    [
        ({"tls": {"certfile": "cert.pem"}}, "listeners.default.tls.keyfile: Field required"),
        ({"tls": PAIR | {"certfile": "gone.pem"}}, "listeners.default.tls.certfile: there is no file gone.pem"),
        ({"tls": PAIR | {"keyfile": "."}}, "listeners.default.tls.keyfile: . is not a file"),
        ({"tls": PAIR | {"cafile": "ca.pem"}}, "listeners.default.tls.cafile: unknown setting"),
        ({"tls": PAIR | {"minimum_version": "1.1"}}, "listeners.default.tls.minimum_version: "),
        ({"tls": PAIR | {"reload_interval": 0}}, "listeners.default.tls.reload_interval: "),
        ({"tls": PAIR | {"client_certificates": "required"}}, "tls.client_ca_file: must be given where"),
        ({"tls": PAIR | {"client_ca_file": "ca.pem"}}, "tls.client_ca_file: has no meaning while"),
        ({"tls": PAIR | {"client_certificate_user": "subject"}}, "tls.client_certificate_user: must be 'common_name'"),
        ({"tls": PAIR | {"client_certificate_user": "uri:x"}}, "tls.client_certificate_user: must be 'common_name'"),
        ({"tls": PAIR | {"client_certificate_user": "email:*@*"}}, "tls.client_certificate_user: must be"),
        ({"proxy_protocol": "required"}, "listeners.default.proxy_trusted: must name the balancer's networks"),
        ({"proxy_trusted": ["::1/128"]}, "listeners.default.proxy_trusted: has no meaning while"),
        ({"proxy_protocol": "on", "proxy_trusted": ["::1/128"]}, "listeners.default.proxy_protocol: "),
        ({"proxy_protocol": "required", "proxy_trusted": ["10.0.0.1/8"]}, "listeners.default.proxy_trusted.0"),
        # amqtt's own keys are no second way
        ({"ssl": True}, "listeners.default.ssl: unknown setting"),
        (PAIR, "listeners.default.certfile: unknown setting"),
    ],
)
def test_what_is_wrong_is_named(listener: dict[str, Any], complaint: str) -> None:
    assert complaint in refusal(configured(listener))


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o660, 0o601])
def test_a_key_that_others_may_read_is_refused(mode: int) -> None:
    Path("key.pem").chmod(mode)
    said = refusal(configured({"tls": PAIR}))
    assert said.startswith(f"listeners.default.tls.keyfile: key.pem has mode {mode:04o}: others may read or change it")


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_key_for_its_owner_or_a_group_is_fine(mode: int) -> None:
    Path("key.pem").chmod(mode)
    load("embedded", configured({"tls": PAIR}))


def test_http_is_not_looked_at_where_it_is_not_served() -> None:
    load("lab", {"http": {"tls": {"certfile": "gone.pem", "keyfile": "gone.pem"}}})
