"""The settings of relation keys: what is refused, and that master keys are never told."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from aldis.config.effective import effective
from aldis.config.layers import Layer, Layers
from aldis.config.relation_keys import RelationKeys
from aldis.config.settings import Settings, SettingsError, load

ONE, TWO = (base64.b64encode(letter * 32).decode() for letter in (b"1", b"2"))


def test_without_one_the_secrets_file_counts() -> None:
    assert RelationKeys().master_keys() == []


@pytest.mark.parametrize(("given", "keys"), [(ONE, [b"1" * 32]), (f"{ONE}, {TWO}", [b"1" * 32, b"2" * 32])])
def test_one_or_several(given: str, keys: list[bytes]) -> None:
    made = RelationKeys(master=given)  # type: ignore[arg-type]
    assert made.master_keys() == keys
    assert ONE not in repr(made)


@pytest.mark.parametrize(
    "given", ["", "SECRET", ONE[:-4], f"{ONE},", f"{ONE};{TWO}", base64.b64encode(bytes(31)).decode()]
)
def test_a_wrong_one_is_refused_and_not_repeated(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"accounts\.keys\.master: must be base64 of 32 bytes") as refused:
        load("embedded", {"accounts": {"keys": {"master": given}}})
    assert not given or given not in str(refused.value)


@pytest.mark.parametrize("name", ["max_versions", "max_devices", "burst", "per_minute"])
@pytest.mark.parametrize("value", [0, -1, "many", None])
def test_bounds_are_bounds(name: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        RelationKeys(**{name: value})


def test_a_misspelt_one_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"accounts\.keys\.max_version: unknown setting"):
        load("embedded", {"accounts": {"keys": {"max_version": 3}}})


def test_showing_the_configuration_shows_no_master_key() -> None:
    layers = Layers([Layer({"accounts": {"keys": {"master": ONE}}}, lambda key: "here")])
    lines = list(effective(Settings(**layers.merged()), layers))
    shown = "\n".join(map(str, lines))
    assert "accounts.keys.master" in shown and ONE not in shown
