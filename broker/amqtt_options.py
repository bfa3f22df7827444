"""What the profile says about plugins, checked without starting one: can it be imported, are its options right?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from amqtt.plugins.base import BasePlugin
from amqtt.utils import import_string
from dacite import Config as DaciteConfig
from dacite import DaciteError, from_dict


class OptionsError(Exception):
    """The text says what is wrong with a plugin's path or options."""


def parse_options(path: str, options: Mapping[str, Any]) -> Any:
    """The plugin's `Config` with these options. Raises `OptionsError`."""
    try:
        found: Any = import_string(path)
    except Exception as error:
        # whatever a module raises while it is imported, the operator must hear which plugin it was
        raise OptionsError(f"cannot be imported: {str(error) or type(error).__name__}") from error
    if not (isinstance(found, type) and issubclass(found, BasePlugin)):
        raise OptionsError("is no amqtt plugin")
    try:
        config = from_dict(data_class=found.Config, data=dict(options), config=DaciteConfig(strict=True))
    except (DaciteError, TypeError) as error:
        raise OptionsError(str(error)) from error
    check = getattr(found, "check_options", None)
    if check is not None:
        try:
            check(config)
        except ValueError as error:
            raise OptionsError(str(error)) from error
    return config


def plugin_problems(plugins: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The key and what is wrong, for each plugin that could not be loaded."""
    for path, options in plugins.items():
        try:
            parse_options(path, options)
        except OptionsError as error:
            yield ("plugins", path), str(error)
