"""The settings in force, value by value, each with the place it came from, for whoever asks `aldis config show`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aldis.config.layers import Key, Layers, dotted
from aldis.config.secrecy import shown
from aldis.config.settings import Settings


class Effective(NamedTuple):
    """One setting: its key, its value as shown, and where it came from: `default`, the file, a variable, a flag."""

    key: str
    value: str
    origin: str


def effective(settings: Settings, layers: Layers) -> Iterator[Effective]:
    """Every setting, in the order of the model."""
    for key, value in _leaves((), settings.model_dump(mode="json")):
        yield Effective(dotted(key), shown(key, value), layers.given(key) or "default")


def _leaves(key: Key, value: Any) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves((*key, name), inner)
    else:
        yield key, value
