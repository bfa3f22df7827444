"""Settings from several places, laid over each other, each value still knowing where it came from.

Nothing here knows which settings exist: `config/settings.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from yaml.reader import ReaderError

Key = tuple[str | int, ...]
"""The way to one value through nested mappings: `("limits", "max_inflight")`."""


class SettingsError(Exception):
    """The configuration cannot be used; the text names the key, what is wrong with it and where it came from."""


class Layer(NamedTuple):
    """The values of one place. `origin` names that place for a key in it, in words for the operator."""

    values: Mapping[str, Any]
    origin: Callable[[Key], str]


class Layers:
    """Layers, weakest first."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers

    def merged(self) -> dict[str, Any]:
        """The mapping in which, leaf by leaf, the strongest layer that says something wins."""
        result: dict[str, Any] = {}
        for layer in self._layers:
            result = merge(result, layer.values)
        return result

    def given(self, key: Key) -> str | None:
        """Where exactly this value was given, None if nowhere: it is a default."""
        found = None
        for layer in self._layers:
            if reach(layer.values, key) == len(key):
                found = layer.origin(key)
        return found

    def origin(self, key: Key) -> str:
        """Where the value at `key` came from: the strongest of the layers that reach furthest towards it."""
        found, furthest = "defaults", 0
        for layer in self._layers:
            depth = reach(layer.values, key)
            if depth and depth >= furthest:
                found, furthest = layer.origin(key[:depth]), depth
        return found


def merge(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A new mapping: `extra` wins, but where both hold a mapping these are merged. `base` gives the order."""
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = merge(old, value)
        else:
            result[key] = value
    return result


def reach(values: Any, key: Key) -> int:
    """How many steps of `key` can be taken from `values`."""
    for depth, part in enumerate(key):
        if not isinstance(values, Mapping) or part not in values:
            return depth
        values = values[part]
    return len(key)


def dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)


class _GivenTwice(yaml.constructor.ConstructorError):
    """The name of a setting, which is no secret."""


class _StrictLoader(yaml.SafeLoader):
    """YAML says that keys are unique; PyYAML lets the last one win, and half a configuration vanishes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                raise _GivenTwice(None, None, f"{key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """The document in `path`, None if it is empty. Raises `OSError`, `UnicodeDecodeError`, `yaml.YAMLError`."""
    # the loader is a SafeLoader: plain data only
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506


def trouble(error: UnicodeDecodeError | yaml.YAMLError) -> str:
    """What is wrong with the document, and where, without a word out of it: it may hold secrets, and a password that
    begins with `*` or `!` is what YAML stumbles over."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it has bytes that are no text" if isinstance(error, UnicodeDecodeError | ReaderError) else "no document"
    told = error.problem or error.context or "it cannot be read"
    if not isinstance(error, _GivenTwice):
        told = re.sub(r"'(?!<).{4,}'", "'…'", told, flags=re.S)
    mark = error.problem_mark or error.context_mark
    return told if mark is None else f"{told}, line {mark.line + 1}, column {mark.column + 1}"
