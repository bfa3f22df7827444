"""What a process of a cluster is: all in one (`up`), a node, or the accounts; one configuration serves them all."""

from __future__ import annotations

from typing import Any, Literal

from aldis.config.layers import SettingsError
from aldis.config.settings import Settings

Role = Literal["up", "node", "accounts"]


def role_overrides(role: Role) -> dict[str, Any]:
    """What the role says, whatever the profile does."""
    return {} if role == "up" else {"accounts": {"enabled": role == "accounts"}}


def check_role(role: Role, settings: Settings) -> None:
    """Raises `SettingsError` where a process would stand beside others without a way to them."""
    if role != "up" and settings.cluster is None:
        raise SettingsError(
            f"cluster.redis_url: must be given for `aldis {role}`, which is one of several processes; "
            "`aldis up` is one for everything"
        )
