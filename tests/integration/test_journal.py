"""Messages acknowledged for being in the journal: a cluster with `store.accept: journal`, real Redis and MariaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.cluster import Cluster
from tests.clusters import clustered, entrances
from tests.operating import figures, soon
from tests.people import people

JOURNAL = {
    "store.accept": "journal",
    "store.answer_timeout": 2,
    "store.connect_timeout": 1,
    "timeouts.commit_retry": 0.1,
    "cluster.journal.shards": 4,
    "cluster.journal.lease": 2,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with clustered(tmp_path_factory.mktemp("journal"), settings=JOURNAL) as cluster:
        yield cluster


def test_a_message_is_answered_stored_and_delivered_everywhere(cluster: Cluster) -> None:
    first, second = entrances(cluster)
    ann, bob = people(first, "ann", "bob")
    with ann.online("phone") as phone, ann.online("tablet") as tablet:
        bob.server = second
        with bob.online("phone") as his:
            sent = [phone.say(bob, {"id": number, "body": f"message {number}"}) for number in range(20)]
            assert [one["id"] for one in sent] == list(range(20))
            mids = [one["mid"] for one in sent]
            assert mids == sorted(set(mids))
            his.until(lambda: len(his.documents("chat")) == 20)
            assert [one["mid"] for one in his.documents("chat")] == mids
            first_n = his.documents("chat")[0]["n"]
            assert [one["n"] for one in his.documents("chat")] == list(range(first_n, first_n + 20))
            tablet.until(lambda: len(tablet.documents("sync")) == 20)
            phone.until(lambda: {"type": "delivered", "up_to": mids[-1]} in phone.documents("receipt"))
    soon(lambda: figures(cluster.nodes[0])[("aldis_journal_length",)] == 0)
