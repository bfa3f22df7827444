"""Messages acknowledged for being in the journal: a cluster with `store.accept: journal`, real Redis and MariaDB, and
what is done to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from scripts.cluster import Aldis as Node
from scripts.cluster import Cluster
from tests.clusters import Entrance, clustered, entrances
from tests.operating import figures, get, soon
from tests.people import Device, Person, people

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


class Talk:
    """One device that says numbers, one after the other, as soon as the last is acknowledged."""

    def __init__(self, phone: Device, to: Person, pause: float = 0.01) -> None:
        self.sent: list[dict[str, Any]] = []
        self.waits: list[tuple[float, float]] = []
        """When each was sent, and how long it took to its acknowledgement."""
        self.sender = phone.user
        self._phone, self._to, self._pause = phone, to, pause
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                begun = time.monotonic()
                self.sent.append(self._phone.say(self._to, {"id": len(self.sent), "body": str(len(self.sent))}))
                self.waits.append((begun, time.monotonic() - begun))
                time.sleep(self._pause)
        except BaseException as error:
            self._error = error
            raise

    def __enter__(self) -> Talk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        assert self._error is None

    def more(self, count: int) -> None:
        """Returns when so many more were acknowledged."""
        enough = len(self.sent) + count
        soon(lambda: len(self.sent) >= enough or self._error is not None)


def arrive(his: Device, sent: list[dict[str, Any]]) -> None:
    """Everything that was acknowledged comes, once, in order, under the mids that the sender was told."""
    his.until(lambda: len(his.documents("chat")) >= len(sent))
    got = his.documents("chat")
    assert [one["id"] for one in got] == [one["id"] for one in sent]
    assert [one["mid"] for one in got] == [one["mid"] for one in sent]
    assert [one["n"] for one in got] == list(range(got[0]["n"], got[0]["n"] + len(got)))
    mids = [one["mid"] for one in got]
    assert mids == sorted(set(mids))


@contextmanager
def talking(sender: Entrance, receiver: Entrance) -> Iterator[tuple[Talk, Device]]:
    """Ann talks to Bob, who reads when the block is over."""
    ann, bob = people(sender, "ann", "bob")
    with ann.online("phone") as phone:
        bob.server = receiver
        with bob.online("phone") as his:
            talk = Talk(phone, bob)
            with talk:
                yield talk, his
            arrive(his, talk.sent)
            last = {"type": "delivered", "up_to": talk.sent[-1]["mid"]}
            phone.until(lambda: last in phone.documents("receipt"))


def figure(node: Node, name: str) -> float:
    return figures(node)[(f"aldis_journal_{name}",)]  # type: ignore[arg-type]


def test_a_message_is_answered_stored_and_delivered_everywhere(cluster: Cluster) -> None:
    first, second = entrances(cluster)
    ann, bob = people(first, "ann", "bob")
    with ann.online("phone") as phone, ann.online("tablet") as tablet:
        bob.server = second
        with bob.online("phone") as his:
            sent = [phone.say(bob, {"id": number, "body": f"message {number}"}) for number in range(20)]
            assert [one["id"] for one in sent] == list(range(20))
            arrive(his, sent)
            tablet.until(lambda: len(tablet.documents("sync")) == 20)
            assert [one["mid"] for one in tablet.documents("sync")] == [one["mid"] for one in sent]
            again = phone.say(bob, {"id": 7, "body": "message 7"})
            assert again == sent[7]
    soon(lambda: figure(cluster.nodes[0], "length") == 0)
    # a node that was kept waiting may have lost a lease for a moment
    soon(lambda: sum(figure(node, "shards_stored_here") for node in cluster.nodes) == 4)


def test_redis_is_killed_and_has_kept_what_was_acknowledged(cluster: Cluster) -> None:
    first, second = entrances(cluster)
    with talking(first, second) as (talk, _):
        talk.more(20)
        cluster.mysql.stop()  # so that there is something in the journal
        talk.more(50)
        cluster.redis.kill()
        time.sleep(1)
        assert "the journal takes no messages" in get(cluster.nodes[0], "/readyz")[1]  # type: ignore[arg-type]
        cluster.redis.start()
        talk.more(50)
        cluster.redis.kill()
        cluster.mysql.start()
        cluster.redis.start()
        talk.more(50)


def test_a_node_that_stores_is_killed(cluster: Cluster) -> None:
    first, _ = entrances(cluster)
    with talking(first, first) as (talk, _):
        talk.more(50)
        cluster.nodes[1].kill()
        talk.more(50)
        soon(lambda: figure(cluster.nodes[0], "shards_stored_here") == 4)
        talk.more(50)
    cluster.nodes[1].start()
    soon(lambda: figure(cluster.nodes[1], "shards_stored_here") == 2)


def test_a_node_that_stores_stands_still_and_goes_on(cluster: Cluster) -> None:
    first, _ = entrances(cluster)
    with talking(first, first) as (talk, _):
        for _ in range(2):
            talk.more(50)
            cluster.nodes[1].pause()
            soon(lambda: figure(cluster.nodes[0], "shards_stored_here") == 4)
            talk.more(50)
            cluster.nodes[1].resume()
            soon(lambda: figure(cluster.nodes[1], "shards_stored_here") == 2)
