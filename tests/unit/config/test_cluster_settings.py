"""The settings of the cluster: what is refused and under which key, and that the address of Redis is never told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aldis.config.cluster import Cluster, host_name
from aldis.config.effective import effective
from aldis.config.layers import Layers
from aldis.config.settings import Settings, SettingsError, load

URL = "redis://aldis:hush@redis.example.org:6379/1"
DATABASE = {"backend": "mysql", "url": "mysql://aldis@db/aldis"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALDIS_CLUSTER", "ALDIS_CLUSTER__REDIS_URL", "ALDIS_STORE__URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def with_cluster(**cluster: Any) -> Settings:
    return load("embedded", {"store": DATABASE, "cluster": {"redis_url": URL, **cluster}})


def refusal(overrides: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as refused:
        load("embedded", overrides)
    return str(refused.value)


def test_without_the_section_a_process_is_alone() -> None:
    assert load("embedded").cluster is None
    assert Settings().cluster is None


def test_a_variable_alone_makes_a_node_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_CLUSTER__REDIS_URL", URL)
    cluster = load("embedded", {"store": DATABASE}).cluster
    assert cluster is not None and cluster.redis_url.get_secret_value() == URL


def test_a_variable_takes_the_section_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDIS_CLUSTER", "null")
    Path("mine.yaml").write_text(f"store: {{backend: sqlite}}\ncluster: {{redis_url: '{URL}'}}\n")
    assert load("mine.yaml").cluster is None


@pytest.mark.parametrize(
    ("host", "name"),
    [("alpha", "alpha"), ("a.b-c_1", "a.b-c_1"), ("größe 1", "gr--e-1"), ("x" * 80, "x" * 64), ("", "node")],
)
def test_a_node_is_named_after_its_host(monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert host_name() == name
    cluster = with_cluster().cluster
    assert cluster is not None and cluster.node == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65, "a\n"])
def test_a_name_that_is_none(name: str) -> None:
    assert refusal({"store": DATABASE, "cluster": {"redis_url": URL, "node": name}}).startswith("cluster.node: ")


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "redis://127.0.0.1",
        "redis://127.0.0.1:6379",
        "redis://127.0.0.1:6379/",
        "rediss://:a%2Fb%40c@[::1]:6380/15",
        "redis://127.0.0.1?db=3",
        "unix:///run/redis/redis.sock",
        "unix:///run/redis/redis.sock?db=3",
        "unix://aldis:hush@/run/redis.sock",
    ],
)
def test_good_addresses(url: str) -> None:
    cluster = with_cluster(redis_url=url).cluster
    assert cluster is not None and cluster.redis_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hush",
        "http://aldis:hush@redis:6379",
        "redis+tls://aldis:hush@redis:6379",
        "redis://:hush@:6379",
        "redis://aldis:hush@redis:port/0",
        "redis://aldis:hush/@redis/0",
        "redis://aldis:hush@redis/hush",
        "redis://aldis:hush@redis/0/1",
        "redis://aldis:hush@redis/0?ssl_cert_reqs=none",
        "redis://aldis:hush@redis/0?hush",
        "redis://aldis:hush@redis/0#hush",
        "unix://hush/run/redis.sock",
        "unix://",
    ],
)
def test_bad_addresses_are_refused_and_not_repeated(url: str) -> None:
    text = refusal({"store": DATABASE, "cluster": {"redis_url": url}})
    assert text.startswith("cluster.redis_url: ") and text.endswith("(from command line)")
    assert "hush" not in text


@pytest.mark.parametrize(
    "overrides",
    [
        {"cluster": URL},
        {"cluster": [URL]},
        {"cluster": {"redis_urll": URL}},
        {"cluster": {"redis_url": [URL]}},
        {"cluster": {"redis_url": {"hush": URL}}},
        {"cluster": {"redis_url": 4711}, "store": {"url": 4711}},
        {"data": [URL]},
        {"http": "https://aldis:hush@example.org"},
        {"plugins": {"house.Rule": "hush"}},
        {"plugins": "hush"},
        {"listeners": {"default": {"bind": {"password": "hush"}}}},
        {"listeners": {"password": "hush"}},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated_either(overrides: dict[str, Any]) -> None:
    text = refusal(overrides)
    assert "hush" not in text and "4711" not in text


@pytest.mark.parametrize(
    "text",
    ["cluster: {redis_url: *hush1}", "cluster: {redis_url: !hush1 x}", 'cluster: {redis_url: "hush1', "a: hush1: b"],
)
def test_what_yaml_stumbles_over_is_not_repeated(text: str) -> None:
    Path("mine.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"file mine\.yaml is not YAML: .*, line \d+, column \d+") as refused:
        load("mine.yaml")
    assert "hush1" not in str(refused.value)


def test_the_address_is_not_shown() -> None:
    settings = with_cluster()
    assert "hush" not in repr(settings) and "hush" not in str(settings.model_dump())
    told = {one.key: one.value for one in effective(settings, Layers([]))}
    assert "hush" not in str(told) and "redis.example.org" not in str(told)
    assert told["cluster.lease"] == "10.0"


@pytest.mark.parametrize(
    ("cluster", "complaint"),
    [
        ({"heartbeat": 2}, "cluster.heartbeat: must be less than cluster.silence (2)"),
        ({"silence": 10, "ownership": 11, "lease": 10}, "cluster.silence: must be less than cluster.lease (10)"),
        ({"ownership": 10}, "cluster.ownership: must be less than cluster.lease (10)"),
        ({"ownership": 1.5}, "cluster.ownership: must not be less than cluster.silence (2)"),
        ({"peer_timeout": 1}, "cluster.peer_timeout: must not be less than cluster.silence (2)"),
        ({"sweep": 0.5}, "cluster.sweep: must not be less than cluster.sweep_unconnected (1)"),
        ({"max_frame_age": 2}, "cluster.silence: must be less than cluster.max_frame_age (2)"),
        ({"max_frame_size": 262_144}, "cluster.max_frame_size: must not be less than limits.max_packet_size and"),
        ({"max_waiting_bytes": 1_000_000}, "cluster.max_waiting_bytes: must not be less than cluster.max_frame_size"),
        ({"lease": 0}, "cluster.lease: Input should be greater than 0, not 0"),
        ({"status_timeout": -1}, "cluster.status_timeout: Input should be greater than 0, not -1"),
        ({"max_known_users": 0}, "cluster.max_known_users: Input should be greater than 0, not 0"),
        ({"prefix": "a b"}, "cluster.prefix: String should match pattern"),
        ({"leese": 1}, "cluster.leese: unknown setting"),
        ({"redis_password_file": "pw"}, "cluster.redis_password_file: there is a password in cluster.redis_url al"),
        ({"redis_tls": {}}, "cluster.redis_tls: has no meaning unless cluster.redis_url begins with rediss://"),
        (
            {"redis_url": "rediss://redis", "redis_tls": {"certfile": "pw"}},
            "cluster.redis_tls: certfile and keyfile go together",
        ),
        (
            {"redis_url": "rediss://redis", "redis_tls": {"ca_file": "none"}},
            "cluster.redis_tls.ca_file: there is no file none",
        ),
        ({"redis_url": "redis://redis", "redis_password_file": "none"}, "cluster.redis_password_file: there is no f"),
    ],
)
def test_what_does_not_go_together(cluster: dict[str, Any], complaint: str) -> None:
    Path("pw").write_text("word\n")
    Path("pw").chmod(0o600)
    lines = refusal({"store": DATABASE, "cluster": {"redis_url": URL, **cluster}}).splitlines()
    assert any(line.startswith(complaint) for line in lines), lines


@pytest.mark.parametrize("backend", ["sqlite", "memory", "none"])
def test_several_nodes_need_one_database(backend: str) -> None:
    text = refusal({"store": {"backend": backend}, "cluster": {"redis_url": URL}})
    assert text == (
        f"cluster: several nodes need one database: store.backend must be mysql, not {backend} (from command line)"
    )


def test_an_address_of_redis_must_be_given() -> None:
    assert refusal({"store": DATABASE, "cluster": {}}).startswith("cluster.redis_url: Field required")


@pytest.mark.parametrize("key", ["redis_password_file", "redis_tls.keyfile"])
def test_a_secret_that_everybody_may_read(key: str) -> None:
    for name in ("pw", "cert"):
        Path(name).write_text("word\n")
        Path(name).chmod(0o644)
    group, _, name = key.partition(".")
    value: Any = {"certfile": "cert", "keyfile": "pw"} if name else "pw"
    cluster = {"redis_url": "rediss://redis", group: value}
    assert f"cluster.{key}: pw has mode 0644" in refusal({"store": DATABASE, "cluster": cluster})
    Path("pw").chmod(0o640)
    load("embedded", {"store": DATABASE, "cluster": cluster})


def test_every_setting_has_its_reason() -> None:
    for name, field in Cluster.model_fields.items():
        assert name == "redis_tls" or re.search(r"\w{3}", field.description or ""), name


@pytest.mark.parametrize(
    ("group", "key"), [("timeouts", "store_down_close"), ("store", "wait_at_start")], ids=lambda word: word
)
def test_waiting_for_a_store(group: str, key: str) -> None:
    assert refusal({group: {key: -1}}).startswith(f"{group}.{key}: Input should be greater than or equal to 0")
    assert getattr(getattr(load("embedded", {group: {key: 0}}), group), key) == 0
