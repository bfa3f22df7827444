"""New settings for a running server (SIGHUP): limits, time-outs, rules of plugins, log level, certificates.

All or nothing: what is wrong anywhere keeps everything as it was, and each problem is logged. What cannot change while
the server runs is named in a warning and keeps its old value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aldis.broker.amqtt_options import parse_options, plugin_problems
from aldis.broker.logs import set_up_logging
from aldis.config.layers import dotted
from aldis.config.settings import FIXED, Settings, SettingsError

if TYPE_CHECKING:
    from aldis.broker.compose import Server

logger = logging.getLogger(__name__)


def reload(server: Server, again: Callable[[], Settings]) -> bool:
    """Reads the settings as at the start and puts them into force. False: they are wrong, the old ones stay."""
    try:
        new = again()
        problems = [f"{dotted(key)}: {text}" for key, text in plugin_problems(new.plugins)]
    except SettingsError as error:
        problems = str(error).splitlines()
    if problems:
        for problem in problems:
            logger.error("settings not reloaded: %s", problem)
        return False
    _apply(server, new)
    certificates = server.reload_certificates()
    logger.info("settings reloaded")
    return certificates


def _apply(server: Server, new: Settings) -> None:
    old = server.settings
    if new.logging != old.logging:
        set_up_logging(new.logging.level, new.logging.format)
    server.configure(new.limits, new.timeouts)
    changed = _options(server, old.plugins, new.plugins)
    for name in FIXED:
        if getattr(new, name) != getattr(old, name):
            logger.warning("%s has changed, which takes effect only at the next start", name)
    kept = {path: new.plugins[path] if path in changed else options for path, options in old.plugins.items()}
    server.accept(
        old.model_copy(update={"limits": new.limits, "timeouts": new.timeouts, "logging": new.logging, "plugins": kept})
    )
    if changed:
        server.connector.decisions.judge_again()


def _options(server: Server, old: dict[str, dict[str, Any]], new: dict[str, dict[str, Any]]) -> set[str]:
    """Hands plugins that can take them their new options; the paths of these."""
    if list(old) != list(new):
        logger.warning("which plugins are loaded, and in which order, takes effect only at the next start")
    changed = set()
    for path, options in old.items():
        if path not in new or new[path] == options:
            continue
        plugin = server.connector.plugin(path)
        if hasattr(plugin, "configure"):
            plugin.configure(parse_options(path, new[path]))
            changed.add(path)
        else:
            logger.warning("the options of %s take effect only at the next start", path)
    return changed
