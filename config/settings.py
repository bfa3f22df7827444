"""Every knob of Aldis: its name, its default, the reason for the default, and the check at start.

Values come, strongest first, from command-line flags, `ALDIS_…` variables (`ALDIS_LIMITS__MAX_INFLIGHT=50`),
the YAML file, the defaults below. An unknown key anywhere is an error that names it and where it stands.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aldis.config.addresses import Address, collide
from aldis.config.environment import PREFIX, environment
from aldis.config.layers import Key, Layer, Layers, SettingsError, dotted, read_yaml

__all__ = [
    "PROFILES",
    "Accounts",
    "Http",
    "Limits",
    "Listener",
    "Logging",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "Timeouts",
    "load",
]

PROFILES = Path(__file__).parent
"""Where the shipped profiles live: `embedded.yaml`, `lab.yaml`."""

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
DottedPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]


class Section(BaseModel):
    """A group of settings. A misspelt key is refused by name instead of being ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Listener(Section):
    type: Literal["tcp", "ws"] = "tcp"
    """`tcp` for plain MQTT, `ws` for MQTT over WebSocket (subprotocol `mqtt`)."""
    bind: Address = "127.0.0.1:1883"
    """HOST:PORT. Port 0 takes a free one, no host means every address."""
    max_connections: Positive = 10_000
    """Connections open at once on this listener, before and after CONNECT; the next one is closed at once."""


class Http(Section):
    bind: Address = "127.0.0.1:8000"
    """HOST:PORT of the REST API and the pages."""
    max_connections: Positive = 1_000
    """HTTP connections open at once; further requests are answered with 503."""


class Limits(Section):
    max_packet_size: Positive = 262_144
    """Bytes of one MQTT packet, header included; a longer one closes the connection before it is buffered."""
    max_message_size: Positive = 65_536
    """Bytes of one chat payload; a longer one is answered with a `failed` receipt. Files go over REST."""
    max_inflight: Annotated[int, Field(gt=0, le=65_535)] = 100
    """Deliveries sent to one session and not yet acknowledged. 100 small ones fill a slow radio link for a second."""
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
    max_write_buffer: Positive = 262_144
    """Bytes waiting to be taken by one slow client; beyond them nothing more is produced for it, nor read from it."""
    max_devices_per_user: Positive = 20
    """Known devices of one user; the next new one is refused at CONNECT."""
    max_sessions: Positive = 100_000
    """Sessions kept by the node, connected or persistent; at the limit a new one is refused as unavailable."""
    max_hold_back: Positive = 64
    """Publishes held back per (device, recipient) while a `seq` is missing; at the limit the new one fails."""
    max_receipts_at_connect: Positive = 1_000
    """Receipt states sent again when a device subscribes, most recent first."""
    live_buffer: Positive = 100
    """Live items kept in memory for one device whose window is full; beyond it the store is read again."""
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
    slow_reader: Seconds = 60.0
    """Seconds that a client may leave a full write buffer unread before its connection is closed."""
    hold_back: Seconds = 5.0
    """Seconds a publish is held back for a missing `seq` before it is answered with a `failed` receipt."""
    collect_acknowledgements: Seconds = 0.02
    """Seconds that acknowledgements of devices are collected before cursors and delivered receipts are committed. Under
    load it saves half of what they cost; nobody sees a tick turn 20 ms later."""
    session_expiry: Seconds = 604_800.0
    """Seconds a persistent session without a connection is kept: a week."""
    commit_retry: Seconds = 0.5
    """Seconds between attempts of a group commit while the store is unavailable."""
    commit_linger: Annotated[float, Field(ge=0)] = 0.003
    """Seconds, at most, that a group commit waits for more messages while commits follow one another. Under full load a
    third more messages share each fsync; a single message on a quiet server never waits."""
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
    """Seconds. A day: an open MQTT connection outlives the expiry; a fresh token is needed only to reconnect."""
    refresh_token_lifetime: Seconds = 7_776_000.0
    """Seconds. 90 days without use ends a login."""
    hashing_concurrency: Positive = 2
    """Passwords hashed at once, in threads; each takes about 40 ms and 19 MiB."""
    hashing_queue: Positive = 32
    """Passwords waiting to be hashed; the next one is answered with 503. 32 wait for less than a second."""
    login_burst: Positive = 20
    """Failed logins that one user, from anywhere, may make at once."""
    login_per_minute: Annotated[float, Field(gt=0)] = 5.0
    """Failed logins that one user regains each minute. Good ones do not count."""
    address_burst: Positive = 100
    """Failed logins that one address (IPv6: one /64) may make at once, over all users."""
    address_per_minute: Annotated[float, Field(gt=0)] = 30.0
    """Failed logins that one address regains each minute."""
    register_burst: Positive = 1_000
    """Registrations that one address may make at once."""
    register_per_minute: Annotated[float, Field(gt=0)] = 60.0
    """Registrations that one address regains each minute."""
    request_burst: Positive = 200
    """Friend requests that one user may make at once, repeated ones included."""
    request_per_minute: Annotated[float, Field(gt=0)] = 20.0
    """Friend requests that one user regains each minute."""
    max_sessions_per_user: Positive = 50
    """Login sessions of one user, one per device; a further login ends the one refreshed longest ago."""
    max_tokens_per_user: Positive = 100
    """Device tokens of one user; the next one is refused with 409."""
    max_friends: Positive = 5_000
    """Friends of one user; the next one is refused with 409. All are listed, with their keys, in one answer."""
    max_friend_requests: Positive = 500
    """Unanswered requests to one user, and from one user; the next one is refused with 409."""
    max_body_size: Positive = 65_536
    """Bytes of one JSON request body; a longer one is answered with 413."""
    secret_file: str = "secrets.json"
    """Signing and wrapping keys, relative to the data folder; made with mode 0600 when missing."""


class Logging(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG adds one line per refused publish; no level logs payloads, passwords or tokens."""


class Settings(BaseSettings):
    """The whole configuration of one process, immutable after start."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", use_attribute_docstrings=True
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
    plugins: dict[DottedPath, dict[str, Any]] = Field(default_factory=dict)
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
        # `load` alone reads the environment: what is built by hand is only what is given by hand.
        return (init_settings,)


def load(profile: Path | str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Reads a profile, by path or by the name of a shipped one, lets `ALDIS_…` variables win over it,
    and `overrides` (nested, as the flags give them) win over both.

    Raises `SettingsError` with one line for each wrong value: its key, what is wrong, and whether it came from the
    file, a variable or a flag.
    """
    path = _profile_path(profile)
    layers = Layers(
        [
            Layer(_file_values(path), lambda key: f"file {path}"),
            environment(Settings),
            Layer(overrides or {}, lambda key: "command line"),
        ]
    )
    try:
        settings = Settings(**layers.merged())
    except ValidationError as error:
        raise SettingsError(_describe(error, layers)) from error
    problems = [f"{dotted(key)}: {text} (from {layers.origin(key)})" for key, text in _inconsistencies(settings)]
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _profile_path(profile: Path | str) -> Path:
    """A bare word is a shipped profile; everything else, and what looks like a file, is a path."""
    if isinstance(profile, Path) or Path(profile).name != profile or Path(profile).suffix:
        return Path(profile)
    path = PROFILES / f"{profile}.yaml"
    if not path.exists():
        shipped = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml")))
        raise SettingsError(f"there is no profile {profile!r}; shipped are {shipped}; a file is given as ./{profile}")
    return path


def _file_values(path: Path) -> dict[str, Any]:
    try:
        document = read_yaml(path)
    except OSError as error:
        raise SettingsError(f"cannot read file {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"file {path} is not YAML: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"file {path} must be a mapping of settings")
    for key in document:
        # pydantic-settings would take `_env_file` and its like as orders to itself
        if not isinstance(key, str) or key.startswith("_"):
            raise SettingsError(f"{key}: unknown setting (from file {path})")
    return document


def _inconsistencies(settings: Settings) -> Iterator[tuple[Key, str]]:
    """What is wrong although every single value is right: the key, and why."""
    if "default" not in settings.listeners:
        yield ("listeners",), "one listener must be called 'default'"
    if settings.limits.max_message_size > settings.limits.max_packet_size:
        yield ("limits", "max_message_size"), "must not exceed limits.max_packet_size"
    bound: list[tuple[Key, str]] = [(("listeners", name, "bind"), one.bind) for name, one in settings.listeners.items()]
    if settings.accounts.enabled:
        bound.append((("http", "bind"), settings.http.bind))
    for (first, address), (second, other) in itertools.combinations(bound, 2):
        if collide(address, other):
            yield second, f"{other} is taken by {dotted(first)} ({address})"
    nearest = next(folder for folder in (settings.data, *settings.data.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        yield ("data",), f"{nearest} is a file, not a folder"


def _describe(error: ValidationError, layers: Layers) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        # pydantic marks a wrong key of a mapping, rather than its value, with "[key]"
        key = tuple(part for part in problem["loc"] if part != "[key]")
        if problem["type"] == "extra_forbidden":
            # not the value: a misspelt key may hold a secret
            reason = "unknown setting"
        else:
            reason = f"{problem['msg'].removeprefix('Value error, ')}, not {problem['input']!r}"
        lines.append(f"{dotted(key)}: {reason} (from {layers.origin(key)})")
    return "\n".join(lines)
