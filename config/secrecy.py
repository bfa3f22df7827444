"""What of the settings nobody may read over a shoulder: in errors, in `aldis config show`."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from aldis.config.layers import Key

MASK = "********"

_NAME = re.compile(r"(?i)(password|passwd|pass_?phrase|secret|token|credential|api_?key|private_?key)s?$")
"""Names of secrets where no type says so: options of plugins. `secret_file` and `token_lifetime` end otherwise."""
_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")
"""User and password in an address, `mysql://user:password@host/`."""


def shown(key: Key, value: Any) -> str:
    """The value as text, or the mask in its place."""
    if value is not None and not isinstance(value, bool | int | float) and _NAME.search(str(key[-1])):
        return MASK
    return _IN_ADDRESS.sub(MASK, str(value))


def quotable(model: type[BaseModel], key: Key, value: Any) -> str | None:
    """How a wrong value at `key` may stand in an error, None if it must not: it is a secret of `model`, or text in a
    group in which one lives. Whoever has slipped in the indentation has the secret one level too high. The options of
    plugins count as secrets, because nobody knows which are."""
    if not isinstance(value, bool | int | float | str) or _NAME.search(str(key[-1])):
        return None
    for path in _secrets(model, ()):
        if all(step is None or step == part for step, part in zip(path, key, strict=False)):
            if isinstance(value, str) or len(key) >= len(path):
                return None
    return _IN_ADDRESS.sub(MASK, repr(value))


def _secrets(model: type[BaseModel], path: tuple[str | None, ...]) -> Iterator[tuple[str | None, ...]]:
    """The paths of all secrets; None stands for any name."""
    for name, field in model.model_fields.items():
        yield from _within(field.annotation, (*path, name))


def _within(annotation: Any, path: tuple[str | None, ...]) -> Iterator[tuple[str | None, ...]]:
    if annotation is SecretStr or annotation is Any:
        yield path
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _secrets(annotation, path)
    elif isinstance(typing.get_origin(annotation), type) and issubclass(typing.get_origin(annotation), Mapping):
        yield from _within(typing.get_args(annotation)[1], (*path, None))
    else:
        for inner in typing.get_args(annotation):
            yield from _within(inner, path)
