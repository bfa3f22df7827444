"""What is kept, and who may stand in front of the REST API: what is refused, by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aldis.config.history import History
from aldis.config.settings import Accounts, SettingsError, load

OPERATIONS = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("section", "key", "wrong"),
    [
        ("history", "keep_days", -1),
        ("history", "keep_days", 1.5),
        ("history", "keep_ids_days", 0),
        ("history", "idle_device_days", -1),
        ("history", "fill_interval", 0),
        ("history", "retention_interval", -5),
        ("history", "batch", 0),
        ("history", "batch", 5_001),
        ("history", "pause", 0),
        ("history", "keep_day", 10),
        ("accounts", "trusted_proxies", ["10.0.0.1/8"]),
        ("accounts", "trusted_proxies", ["everybody"]),
        ("accounts", "cors_origins", ["*"]),
        ("accounts", "cors_origins", ["https://chat.example.org/"]),
        ("accounts", "cors_origins", ["chat.example.org"]),
        ("accounts", "body_timeout", 0),
        ("accounts", "call_burst", 0),
        ("accounts", "call_per_minute", 0),
        ("accounts", "repeat_lifetime", 0),
        ("accounts", "login_repeat_lifetime", 0),
    ],
)
def test_wrong_values(section: str, key: str, wrong: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^{section}\.{key}"):
        load("embedded", {section: {key: wrong}})


def test_what_is_right() -> None:
    settings = load(
        "embedded",
        {
            "history": {"keep_days": 365, "idle_device_days": 0},
            "accounts": {"trusted_proxies": ["10.0.0.0/8", "::1/128"], "cors_origins": ["https://a.example:8443"]},
        },
    )
    assert settings.history.keep_days == 365
    assert [str(one) for one in settings.accounts.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert Accounts().trusted_proxies == Accounts().cors_origins == ()


def test_the_manual_names_every_key_with_its_default() -> None:
    rows = re.findall(r"^\| (`.*`) \| ([^|]*) \|", OPERATIONS.partition("## What is kept")[2].partition("## ")[0], re.M)
    named = {key: default for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}
    assert named.keys() == History.model_fields.keys()
    for key, default in named.items():
        value = History.model_fields[key].default
        assert f"{value:,g}" in default or str(value) in default, (key, default)
