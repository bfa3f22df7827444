"""`aldis config check` and `aldis config show`: what the configuration is, without starting anything."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from aldis.broker.amqtt_options import plugin_problems
from aldis.broker.tls import tls_problems
from aldis.config.effective import effective
from aldis.config.layers import SettingsError, dotted
from aldis.config.settings import read_layers, validate


def check(profile: str, overrides: Mapping[str, Any]) -> int:
    """0 if a server would take the configuration, else 2, with one line on standard error for each problem."""
    try:
        layers = read_layers(profile, overrides)
    except SettingsError as error:
        return _told(str(error).splitlines())
    problems: list[str] = []
    try:
        problems += tls_problems(validate(layers))
    except SettingsError as error:
        problems += str(error).splitlines()
    plugins = layers.merged().get("plugins")
    if isinstance(plugins, Mapping):
        loadable = {path: options for path, options in plugins.items() if isinstance(options, Mapping)}
        problems += [f"{dotted(key)}: {text} (from {layers.origin(key)})" for key, text in plugin_problems(loadable)]
    if problems:
        return _told(problems)
    print(f"{profile}: in order")
    return 0


def show(profile: str, overrides: Mapping[str, Any]) -> int:
    """Prints every setting with where it came from; 2 if the configuration is wrong. Secrets are masked."""
    try:
        layers = read_layers(profile, overrides)
        lines = list(effective(validate(layers), layers))
    except SettingsError as error:
        return _told(str(error).splitlines())
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    for key, value, origin in lines:
        print(f"{key:{widths[0]}}  {value:{min(widths[1], 60)}}  {origin}")
    return 0


def _told(problems: list[str]) -> int:
    for problem in problems:
        print(f"aldis: {problem}", file=sys.stderr)
    return 2
