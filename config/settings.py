"""Every knob of Aldis: its name, its default, the reason for the default, and the check at start.

Values come, strongest first, from command-line flags, `ALDIS_…` variables (`ALDIS_LIMITS__MAX_INFLIGHT=50`),
the YAML file, the defaults below. An unknown key anywhere is an error that names it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PROFILES = Path(__file__).parent
"""Where the shipped profiles live: `embedded.yaml`, `lab.yaml`."""

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]*):\d{1,5}$")]


class SettingsError(Exception):
    """The configuration cannot be used; the text names the key, the value and where it came from."""


class Section(BaseModel):
    """A group of settings. A misspelt key is refused by name instead of being ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Listener(Section):
    type: Literal["tcp", "ws"] = "tcp"
    """`tcp` for plain MQTT, `ws` for MQTT over WebSocket (subprotocol `mqtt`)."""
    bind: Address = "127.0.0.1:1883"
    """HOST:PORT. Port 0 takes a free one."""
    max_connections: Positive = 10_000
    """Connections open at once on this listener, before and after CONNECT; the next one is closed at once."""


class Http(Section):
    bind: Address = "127.0.0.1:8000"
    """HOST:PORT of the REST API and the pages."""


class Limits(Section):
    max_packet_size: Positive = 262_144
    """Bytes of one MQTT packet, header included; a longer one closes the connection before it is buffered."""
    max_message_size: Positive = 65_536
    """Bytes of one chat payload; a longer one is answered with a `failed` receipt. Files go over REST."""
    max_inflight: Annotated[int, Field(gt=0, le=65_535)] = 100
    """Deliveries sent to one session and not yet acknowledged. 100 small messages fill a slow radio link for a second."""
    max_unacknowledged: Positive = 256
    """Publishes taken from one connection and not yet acknowledged; at the limit we stop reading from it."""
    max_queued: Positive = 1_000
    """Plain (not inbox) messages waiting for one session; at the limit the new message is dropped for that session."""
    max_topic_levels: Positive = 32
    """Levels in a topic or filter; more closes the connection (publish) or is refused (subscribe)."""
    max_subscriptions: Positive = 1_000
    """Filters of one session; more are refused with 0x80."""
    max_retained: Positive = 100_000
    """Retained messages kept by the node; at the limit a new topic is not retained."""
    max_write_buffer: Positive = 1_048_576
    """Bytes waiting to be taken by one slow client before nothing more is produced for it."""
    max_devices_per_user: Positive = 20
    """Known devices of one user; the next new one is refused at CONNECT."""
    max_sessions: Positive = 100_000
    """Sessions kept by the node, connected or persistent; at the limit a new one is refused as unavailable."""
    max_hold_back: Positive = 64
    """Publishes held back per (device, recipient) while a `seq` is missing; at the limit the new one fails."""
    max_receipts_at_connect: Positive = 1_000
    """Receipt states sent again when a device subscribes, most recent first."""
    live_buffer: Positive = 100
    """Live items kept in memory for one device whose window is full; beyond it the device reads from the store again."""
    read_batch: Positive = 200
    """Backlog items read from the store at once for one device."""
    commit_batch: Positive = 1_000
    """Messages in one group commit; more wait for the next one. 1,000 rows take about 20 ms."""


class Timeouts(Section):
    connect: Seconds = 10.0
    """Seconds from accepting a connection to its complete CONNECT."""
    acknowledge: Seconds = 20.0
    """Seconds a delivery waits for its acknowledgement before it is sent again with DUP."""
    max_retries: Annotated[int, Field(ge=0)] = 3
    """Times a delivery is sent again without any acknowledgement before the connection is closed (article 8.1)."""
    hold_back: Seconds = 5.0
    """Seconds a publish is held back for a missing `seq` before it is answered with a `failed` receipt."""
    session_expiry: Seconds = 604_800.0
    """Seconds a persistent session without a connection is kept: a week."""
    commit_retry: Seconds = 0.5
    """Seconds between attempts of a group commit while the store is unavailable."""
    shutdown: Seconds = 10.0
    """Seconds that running commits and the HTTP server may take to finish at shutdown."""


class StoreSettings(Section):
    backend: Literal["sqlite", "memory", "none"] = "sqlite"
    """`none` makes a plain MQTT broker without inboxes (the lab profile)."""
    file: str = "aldis.db"
    """SQLite file, relative to the data folder."""
    busy_timeout: Seconds = 5.0
    """Seconds to wait for another process's lock on the database before calling it unavailable."""


class Accounts(Section):
    enabled: bool = True
    """Serve the REST API and the pages in this process."""
    access_token_lifetime: Seconds = 86_400.0
    """Seconds. A day: an MQTT client keeps its connection beyond the expiry, and needs a fresh token only to reconnect."""
    refresh_token_lifetime: Seconds = 7_776_000.0
    """Seconds. 90 days without use ends a login."""
    hashing_concurrency: Positive = 2
    """Passwords hashed at once, in threads; each takes about 40 ms and 19 MiB."""
    secret_file: str = "secrets.json"
    """Signing and wrapping keys, relative to the data folder; made with mode 0600 when missing."""


class Logging(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG adds one line per refused publish; no level logs payloads, passwords or tokens."""


class Settings(BaseSettings):
    """The whole configuration of one process, immutable after start."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix="ALDIS_", env_nested_delimiter="__", use_attribute_docstrings=True
    )

    data: Path = Path("data")
    """Folder for the database and the secrets; made when missing."""
    listeners: dict[str, Listener] = Field(default_factory=lambda: {"default": Listener()})
    """MQTT listeners by name; amqtt wants one called `default`."""
    http: Http = Http()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    store: StoreSettings = StoreSettings()
    accounts: Accounts = Accounts()
    logging: Logging = Logging()
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """amqtt plugins by dotted path, in the order in which they handle a publish, each with its own options."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` hands the file and flags in as init values; the environment stands between them.
        return (env_settings, init_settings)


def load(profile: Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Reads a profile, lets `ALDIS_…` variables and then `overrides` (nested, as the flags give them) win.

    Raises `SettingsError` naming every wrong key, also for a misspelt `ALDIS_…` variable.
    """
    try:
        document = yaml.safe_load(profile.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"cannot read {profile}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{profile} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise SettingsError(f"{profile} must be a mapping of settings")
    _check_variables()
    try:
        settings = Settings(**document)
        if overrides:
            settings = Settings.model_validate(_merged(settings.model_dump(), overrides))
    except ValidationError as error:
        raise SettingsError(_describe(error, profile)) from error
    _check_consistency(settings, profile)
    return settings


def _merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in extra.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _check_variables() -> None:
    """pydantic-settings ignores a variable whose first level is unknown; we do not."""
    known = {name.upper() for name in Settings.model_fields}
    for variable in os.environ:
        if variable.upper().startswith("ALDIS_"):
            first = variable.upper().removeprefix("ALDIS_").split("__")[0]
            if first not in known:
                raise SettingsError(f"unknown setting in the environment: {variable}")


def _check_consistency(settings: Settings, profile: Path) -> None:
    if "default" not in settings.listeners:
        raise SettingsError(f"{profile}: listeners: one listener must be called 'default'")
    if settings.limits.max_message_size > settings.limits.max_packet_size:
        raise SettingsError(f"{profile}: limits.max_message_size must not exceed limits.max_packet_size")


def _describe(error: ValidationError, profile: Path) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        reason = "unknown setting" if problem["type"] == "extra_forbidden" else problem["msg"]
        lines.append(f"{profile}: {key}: {reason} (value: {problem.get('input')!r})")
    return "\n".join(lines)
