"""A journal that changes hands: a storer that dies at the worst moment, a change of the mode, a journal that is full,
and messages that cannot be stored."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import redis

from scripts.backends import password_in
from scripts.cluster import ALDIS, ROOT, Cluster
from tests.clusters import clustered, entrances
from tests.integration.test_journal import JOURNAL, Talk, arrive, figure
from tests.operating import get, soon
from tests.people import people


def in_redis(cluster: Cluster) -> redis.Redis:
    return redis.Redis(port=cluster.redis.port, password=password_in(cluster.redis.password_file))


def waiting(cluster: Cluster) -> int:
    with closing(in_redis(cluster)) as client:
        return sum(int(client.xlen(f"aldis:journal:{shard}")) for shard in range(4))  # type: ignore[arg-type]


def stored(cluster: Cluster) -> int:
    return int(cluster.mysql.ask("SELECT COUNT(*) FROM im_message WHERE kind = 1", "aldis")[0][0])


def test_a_storer_is_killed_between_commit_and_removal(tmp_path: Path) -> None:
    """Messages without an id, too, are there once."""
    with clustered(tmp_path, settings=JOURNAL) as cluster:
        (first, second) = entrances(cluster)
        ann, bob = people(first, "ann", "bob")
        with ann.online("phone") as phone:
            sent = [phone.say(bob, {"body": "one", "id": 0})]
            soon(lambda: waiting(cluster) == 0)
            cluster.mysql.stop()
            sent += [phone.say(bob, {"body": str(number)}) for number in range(30)]
        for node in cluster.nodes:
            node.kill()
        cluster.mysql.start()
        assert (waiting(cluster), stored(cluster)) == (30, 1)
        died = subprocess.run(
            [
                *(sys.executable, "-m", "tests.integration.dying_storer"),
                *(cluster.mysql.url(), str(cluster.mysql.password_file)),
                *(cluster.redis.url(), str(cluster.redis.password_file), "4"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=40,
        )
        assert (died.returncode, died.stdout) == (-signal.SIGKILL, "30 0\n"), died.stderr
        assert (waiting(cluster), stored(cluster)) == (30, 31), "stored, and not removed"
        for node in cluster.nodes:
            node.start()
        soon(lambda: waiting(cluster) == 0)
        assert stored(cluster) == 31
        assert sum(figure(node, "repeats_total") for node in cluster.nodes) == 30
        bob.server = second
        with bob.online("phone") as his:
            his.until(lambda: len(his.documents("chat")) == 31)
            assert [one["mid"] for one in his.documents("chat")] == [one["mid"] for one in sent]


def test_the_mode_changes_with_messages_in_the_journal(tmp_path: Path) -> None:
    """commit, journal, commit: whatever was acknowledged is stored, in order, and mids go on rising."""
    with clustered(tmp_path, settings={**JOURNAL, "store.accept": "commit"}) as cluster:
        first, second = entrances(cluster)
        ann, bob = people(first, "ann", "bob")

        def say(count: int) -> list[dict[str, Any]]:
            with ann.online("phone") as phone:
                return [phone.say(bob, {"id": f"{time.monotonic_ns()}", "body": "x"}) for _ in range(count)]

        sent = say(5)
        cluster.redis.options = ("--appendonly", "yes", "--appendfsync", "always")
        cluster.redis.stop()
        cluster.redis.start()
        cluster.settings["store.accept"] = "journal"
        for node in cluster.nodes:
            node.restart()
        sent += say(5)
        soon(lambda: waiting(cluster) == 0)  # what is stored is removed a moment later
        with ann.online("phone") as phone:
            cluster.mysql.stop()
            sent += [phone.say(bob, {"id": number, "body": "x"}) for number in range(20)]
        for node in cluster.nodes:
            node.kill()
        cluster.mysql.start()
        assert waiting(cluster) == 20
        cluster.settings["store.accept"] = "commit"
        for node in cluster.nodes:
            node.start()
        assert waiting(cluster) == 0, "a node is there for clients when the journal is empty"
        sent += say(5)
        bob.server = second
        with bob.online("phone") as his:
            arrive(his, sent)


def test_nobody_commits_past_those_who_still_accept(tmp_path: Path) -> None:
    with clustered(tmp_path, settings=JOURNAL) as cluster:
        late = cluster.nodes[1]
        late.stop()
        late.settings = {"store.accept": "commit", "store.wait_at_start": 1.5}
        late.begin()
        soon(lambda: "1 other nodes accept into it (waited 1.5 s)" in late.log.read_text())
        soon(lambda: not late.alive)
        late.settings = {}
        late.start()


def test_a_full_journal_keeps_clients_waiting_and_loses_nothing(tmp_path: Path) -> None:
    with clustered(tmp_path, settings={**JOURNAL, "cluster.journal.max_length": 30}) as cluster:
        first, second = entrances(cluster)
        ann, bob = people(first, "ann", "bob")
        with ann.online("phone") as phone:
            bob.server = second
            with bob.online("phone") as his:
                cluster.mysql.stop()
                talk = Talk(phone, bob)
                with talk:
                    soon(lambda: len(talk.sent) == 30)
                    soon(lambda: "the journal is full" in get(cluster.nodes[0], "/readyz")[1])  # type: ignore[arg-type]
                    time.sleep(1)
                    assert len(talk.sent) == 30 and figure(cluster.nodes[0], "unaccepted") == 1
                    cluster.mysql.start()
                    talk.more(30)
                arrive(his, talk.sent)


def test_what_cannot_be_stored_is_told_to_the_operator(tmp_path: Path) -> None:
    with clustered(tmp_path, settings=JOURNAL) as cluster:
        first, _ = entrances(cluster)
        ann, bob = people(first, "ann", "bob")
        with ann.online("phone") as phone, bob.online("phone") as his:
            sent = [phone.say(bob, {"body": "before"})]
            with closing(in_redis(cluster)) as client:
                for shard in range(4):
                    last = int(client.hget("aldis:journal:state", f"last:{shard}") or 0)  # type: ignore[arg-type]
                    data = msgspec.msgpack.encode("nobody's message")
                    client.xadd(f"aldis:journal:{shard}", {"d": b"0" * 16 + data}, id=f"{last + 1_000_000}-0")
                    client.hset("aldis:journal:state", f"last:{shard}", str(last + 1_000_000))
            sent.append(phone.say(bob, {"body": "after"}))
            arrive_unnumbered = [one["mid"] for one in sent]
            his.until(lambda: [one["mid"] for one in his.documents("chat")] == arrive_unnumbered)
        soon(lambda: figure(cluster.nodes[0], "poison") == 4)
        listed = journal_command(cluster, "list")
        assert listed.count("not an entry") == 4
        number = listed.split()[0]
        assert number in journal_command(cluster, "show", number)
        journal_command(cluster, "retry", number)  # it is no better for it
        soon(lambda: figure(cluster.nodes[0], "poison") == 4)
        for line in journal_command(cluster, "list").splitlines():
            journal_command(cluster, "drop", line.split()[0])
        assert figure(cluster.nodes[0], "poison") == 0
        assert "0 messages" in journal_command(cluster, "status")


def journal_command(cluster: Cluster, *words: str) -> str:
    node = cluster.nodes[0]
    done = subprocess.run(
        [str(ALDIS), "journal", *words, "--config", "node"],
        env=node._environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_ids_and_counters_hold_over_nodes_and_for_longer_than_the_journal_remembers(tmp_path: Path) -> None:
    with clustered(tmp_path, settings={**JOURNAL, "cluster.journal.remember": 1}) as cluster:
        first, second = entrances(cluster)
        ann, bob = people(first, "ann", "bob")
        with ann.online("phone") as phone:
            sent = [phone.say(bob, {"id": number, "seq": number, "body": "x"}) for number in (1, 2, 3)]
        ann.server = second
        with ann.online("phone") as phone:  # the other node, which knows nothing of this device
            assert phone.say(bob, {"id": 3, "seq": 3, "body": "x"}) == sent[2]
            sent.append(phone.say(bob, {"id": 4, "seq": 4, "body": "x"}))
            sent.append(phone.say(bob, {"id": "without a counter", "body": "x"}))
            soon(lambda: waiting(cluster) == 0)
        time.sleep(1.7)  # up to one and a half of `remember`
        ann.server = first
        with ann.online("phone") as phone:  # Redis has forgotten: the database has not
            again = phone.say(bob, {"id": "without a counter", "body": "x"})
            phone.until(lambda: len(phone.receipts("sent")) == 2)
            wrong, right = phone.receipts("sent")
            assert wrong == again and right == sent[-1] and wrong["mid"] > right["mid"]
            assert phone.say(bob, {"id": "without a counter", "body": "x"}) == right
            sent.append(phone.say(bob, {"id": 5, "seq": 5, "body": "x"}))
        with bob.online("phone") as his:
            arrive(his, sent)
