"""The settings that stand in the environment: `ALDIS_LIMITS__MAX_INFLIGHT=50` is `limits.max_inflight`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings import SettingsError as VariableError

from aldis.config.layers import Key, Layer, SettingsError, dotted, reach

PREFIX = "ALDIS_"


def environment(settings: type[BaseSettings]) -> Layer:
    """What the variables say. Raises `SettingsError` for one that means no setting of `settings`."""
    try:
        values = dict(EnvSettingsSource(settings)())
    except VariableError as error:
        # pydantic-settings names the field only, in quotes
        suspects = [(key[0], variable) for variable, key in _variables() if f'"{key[0]}"' in str(error)]
        group, variables = suspects[0][0], ", ".join(variable for _, variable in suspects)
        raise SettingsError(f"{group}: must be given as JSON (from variable {variables})") from error
    for variable, key in _variables():
        if os.environ[variable] == "null" and key[0] in settings.model_fields:
            # pydantic-settings passes over it, too; it is how a section of the profile is taken away
            values.setdefault(key[0], None)
        # pydantic-settings passes over what it cannot place; we do not
        if reach(values, key) < len(key):
            raise SettingsError(f"{dotted(key)}: unknown setting (from variable {variable})")
    return Layer(values, _variable_of)


def _variables() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every variable of ours, with the setting that it means."""
    for variable in os.environ:
        if variable.upper().startswith(PREFIX):
            yield variable, tuple(variable[len(PREFIX) :].lower().split("__"))


def _variable_of(key: Key) -> str:
    """The variable that set `key`; it may also have brought the whole group as JSON, or reach beyond the key."""
    words = tuple(str(part).lower() for part in key)
    related = [
        (len(to), name) for name, to in _variables() if all(one == two for one, two in zip(to, words, strict=False))
    ]
    return f"variable {max(related)[1]}"
