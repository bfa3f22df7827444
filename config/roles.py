"""What a process of a cluster is: all in one (`up`), a node, or the accounts; one configuration serves them all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from aldis.config.cluster import host_name
from aldis.config.layers import SettingsError
from aldis.config.settings import Settings, read_layers

Role = Literal["up", "node", "accounts"]


def role_overrides(role: Role, profile: Path | str) -> dict[str, Any]:
    """What the role says, whatever the profile does. Raises `SettingsError`."""
    if role == "up":
        return {}
    if role == "node":
        return {"accounts": {"enabled": False}}
    overrides: dict[str, Any] = {"accounts": {"enabled": True}}
    layers = read_layers(profile)
    if layers.given(("cluster", "redis_url")) and not layers.given(("cluster", "node")):
        # beside a node on the same host, which is called after it
        overrides["cluster"] = {"node": f"{host_name()[:55]}-accounts"}
    return overrides


def check_role(role: Role, settings: Settings) -> None:
    """Raises `SettingsError` where a process would stand beside others without a way to them."""
    if role != "up" and settings.cluster is None:
        raise SettingsError(
            f"cluster.redis_url: must be given for `aldis {role}`, which is one of several processes; "
            "`aldis up` is one for everything"
        )
