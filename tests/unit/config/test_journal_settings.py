"""The settings of the journal: what is refused, and under which key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aldis.config.settings import SettingsError, load

URL = "redis://redis.example.org"
DATABASE = {"backend": "mysql", "url": "mysql://aldis@db/aldis"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ALDIS_CLUSTER", "ALDIS_CLUSTER__REDIS_URL", "ALDIS_STORE__URL", "ALDIS_STORE__ACCEPT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(profile: str = "embedded", **overrides: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load(profile, overrides)
    return str(refused.value)


def with_journal(**journal: Any) -> dict[str, Any]:
    return {"store": {**DATABASE, "accept": "journal"}, "cluster": {"redis_url": URL, "journal": journal}}


def test_messages_are_committed_unless_the_operator_says_otherwise() -> None:
    assert load("embedded").store.accept == "commit"
    assert load("node", {"store": DATABASE, "cluster": {"redis_url": URL}}).store.accept == "commit"


def test_an_embedded_server_has_no_journal_and_says_so() -> None:
    told = refusal(store={"accept": "journal"})
    assert told.startswith("store.accept: a process without cluster has no journal: it acknowledges a message when")


def test_neither_has_one_process_on_a_database() -> None:
    assert refusal("mysql", store={**DATABASE, "accept": "journal"}).startswith("store.accept: ")


def test_another_way_is_refused() -> None:
    assert refusal(store={"accept": "memory"}).startswith("store.accept: ")


def test_a_node_of_a_cluster_may_have_one() -> None:
    settings = load("embedded", with_journal(shards=8, replicas=2))
    assert settings.cluster is not None
    assert (settings.store.accept, settings.cluster.journal.shards, settings.cluster.journal.replicas) == (
        "journal",
        8,
        2,
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shards", 0),
        ("shards", 257),
        ("shards", "many"),
        ("max_length", 0),
        ("max_bytes", 0),
        ("max_bytes", 1_000),
        ("max_poison", 0),
        ("remember", 0),
        ("lease", 0),
        ("lease", 1.5),
        ("replicas", -1),
        ("replica_timeout", 0),
        ("replica_timeout", 2.0),
        ("flush_every_second", "perhaps"),
        ("trust_durability", 7),
        ("shard", 1),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object) -> None:
    assert refusal(**with_journal(**{key: value})).startswith(f"cluster.journal.{key}: ")


def test_whose_settings_nobody_reads_has_no_weaker_ones() -> None:
    told = refusal(**with_journal(trust_durability=True, flush_every_second=True))
    assert told.startswith("cluster.journal.flush_every_second: has no meaning with")


def test_the_durability_of_a_hint_is_nobodys_concern() -> None:
    """With `commit` the same Redis may be weak."""
    assert load("embedded", {"store": DATABASE, "cluster": {"redis_url": URL}}).cluster is not None
