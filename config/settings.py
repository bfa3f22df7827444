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
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aldis.config.addresses import Address, collide
from aldis.config.cluster import Cluster, cluster_problems
from aldis.config.entrance import Entrance, Network, Tls, entrance_problems
from aldis.config.environment import PREFIX, environment
from aldis.config.files import Files, files_problems
from aldis.config.history import History
from aldis.config.layers import Key, Layer, Layers, SettingsError, dotted, read_yaml, trouble
from aldis.config.limits import Limits, Timeouts
from aldis.config.relation_keys import RelationKeys
from aldis.config.secrecy import quotable
from aldis.config.section import Positive, Seconds, Section
from aldis.config.store import StoreSettings, store_problems
from aldis.config.web import Web, web_problems

__all__ = [
    "PROFILES",
    "Accounts",
    "Cluster",
    "Files",
    "History",
    "Http",
    "Limits",
    "Listener",
    "Logging",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "Timeouts",
    "Tls",
    "Web",
    "load",
]

PROFILES = Path(__file__).parent
"""Where the shipped profiles live: `embedded.yaml`, `mysql.yaml`, `node.yaml`, `accounts.yaml`, `lab.yaml`."""

METRICS = "aldis.plugins.metrics.Metrics"
FIXED = ("data", "listeners", "http", "store", "cluster", "accounts", "history", "files", "web")
"""What takes effect only at the next start."""

Origin = Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.-]+(:\d{1,5})?$")]
"""Scheme, host and port of a web page, without a slash at the end."""
DottedPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]


class Listener(Entrance):
    type: Literal["tcp", "ws"] = "tcp"
    """`tcp` for plain MQTT, `ws` for MQTT over WebSocket (subprotocol `mqtt`)."""
    bind: Address = "127.0.0.1:1883"
    """HOST:PORT. Port 0 takes a free one, no host means every address."""
    max_connections: Positive = 10_000
    """Connections open at once on this listener, before and after CONNECT; the next one is closed at once."""


class Http(Entrance):
    bind: Address = "127.0.0.1:8000"
    """HOST:PORT of the REST API and the pages."""
    max_connections: Positive = 1_000
    """HTTP connections open at once; further requests are answered with 503."""


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
    body_timeout: Seconds = 20.0
    """Seconds that a request body may take to arrive, however busy it looks; then it is answered with 408."""
    call_burst: Positive = 1_000
    """Calls with an access token that one user may make at once, over all devices."""
    call_per_minute: Annotated[float, Field(gt=0)] = 1_200.0
    """Such calls that one user regains each minute: 20 a second, far beyond any app that a person uses."""
    repeat_lifetime: Seconds = 86_400.0
    """Seconds for which the answer to a request with an `Idempotency-Key` is kept."""
    login_repeat_lifetime: Seconds = 3_600.0
    """Seconds for which a login or a refresh with an `Idempotency-Key` may be repeated. Shorter than the others:
    whoever has both the old refresh token and the key is taken for its owner for so long."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of HTTP proxies, `10.1.0.0/24`, whose `X-Forwarded-For` is believed when an address is counted. From
    everybody else the header means nothing."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages of other origins, `https://chat.example.org`, that browsers may let call the API. None by default: the
    web client that comes with the server needs none."""
    keys: RelationKeys = RelationKeys()
    secret_file: str = "secrets.json"
    """Signing and wrapping keys, relative to the data folder; made with mode 0600 when missing."""


class Logging(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """DEBUG adds one line per refused publish; no level logs payloads, passwords or tokens."""
    format: Literal["text", "json"] = "text"
    """`text` for people, `json` for collectors: one object per line."""


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
    cluster: Cluster | None = None
    """Other nodes on the same database, and Redis between them. Without it this process is the only one."""
    accounts: Accounts = Accounts()
    history: History = History()
    files: Files = Files()
    web: Web = Web()
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
    return validate(read_layers(profile, overrides))


def read_layers(profile: Path | str, overrides: Mapping[str, Any] | None = None) -> Layers:
    """File, variables and flags, each still by itself. Raises `SettingsError`."""
    path = _profile_path(profile)
    return Layers(
        [
            Layer(_file_values(path), lambda key: f"file {path}"),
            environment(Settings),
            Layer(overrides or {}, lambda key: "command line"),
        ]
    )


def validate(layers: Layers) -> Settings:
    """The settings that the layers make. Raises `SettingsError`."""
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
        raise SettingsError(f"file {path} is not YAML: {trouble(error)}") from error
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
    if (
        settings.limits.publish_bytes_per_second
        and settings.limits.publish_bytes_burst < settings.limits.max_packet_size
    ):
        yield ("limits", "publish_bytes_burst"), "must not be less than limits.max_packet_size"
    bound: list[tuple[Key, str]] = [(("listeners", name, "bind"), one.bind) for name, one in settings.listeners.items()]
    if serves_http(settings):
        bound.append((("http", "bind"), settings.http.bind))
    for (first, address), (second, other) in itertools.combinations(bound, 2):
        if collide(address, other):
            yield second, f"{other} is taken by {dotted(first)} ({address})"
    yield from ((("store", *below), text) for below, text in store_problems(settings.store))
    yield from ((("files", *below), text) for below, text in files_problems(settings.files))
    if serves_web(settings):
        problems = web_problems(settings.web, page_has_tls=settings.http.tls is not None)
        yield from ((("web", *below), text) for below, text in problems)
    if settings.cluster is not None:
        problems = cluster_problems(
            settings.cluster, backend=settings.store.backend, max_packet_size=settings.limits.max_packet_size
        )
        yield from ((("cluster", *below), text) for below, text in problems)
    elif settings.store.accept == "journal":
        text = "a process without cluster has no journal: it acknowledges a message when the database has it"
        yield ("store", "accept"), text
    for key, entrance in entrances(settings):
        yield from (((*key, *below), text) for below, text in entrance_problems(entrance))
    nearest = next(folder for folder in (settings.data, *settings.data.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        yield ("data",), f"{nearest} is a file, not a folder"


def entrances(settings: Settings) -> Iterator[tuple[Key, Entrance]]:
    """Every place where connections come in, with its key."""
    for name, listener in settings.listeners.items():
        yield ("listeners", name), listener
    if serves_http(settings):
        yield ("http",), settings.http


def serves_http(settings: Settings) -> bool:
    """REST, metrics, or the health of a node that others stand beside."""
    return settings.accounts.enabled or settings.cluster is not None or METRICS in settings.plugins


def serves_web(settings: Settings) -> bool:
    """The web chat, which is nothing without the REST API."""
    return settings.accounts.enabled and settings.web.enabled


def _describe(error: ValidationError, layers: Layers) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        # pydantic marks a wrong key of a mapping, rather than its value, with "[key]"
        key = tuple(part for part in problem["loc"] if part != "[key]")
        if problem["type"] == "extra_forbidden":
            # not the value: a misspelt key may hold a secret
            reason = "unknown setting"
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            value = quotable(Settings, key, problem["input"])
            if value is not None:
                reason += f", not {value}"
        lines.append(f"{dotted(key)}: {reason} (from {layers.origin(key)})")
    return "\n".join(lines)
