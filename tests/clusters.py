"""A cluster for tests: `scripts.cluster`, and its ways in as the servers that `tests.people` knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.cluster import Address, Cluster
from tests.servers import Aldis
from tests.wire import TcpStream


class Entrance(Aldis):
    """One way into a running cluster: MQTT of a node or of the balancer, REST of the accounts. It has no process."""

    def __init__(self, mqtt: Address, ws: Address, http: Address) -> None:
        self.mqtt, self.ws, self.http = mqtt, ws, http
        self.authority = None

    def stream(self, *, receive_buffer: int | None = None) -> TcpStream:
        """It has no log of its own, so `end_of` is not for it."""
        return TcpStream(self.mqtt, receive_buffer)


def entrances(cluster: Cluster) -> list[Entrance]:
    """One for each node."""
    return [Entrance(node.mqtt, node.ws, cluster.accounts.http) for node in cluster.nodes]


@contextmanager
def clustered(
    folder: Path,
    *,
    nodes: int = 2,
    balancer: bool = False,
    settings: Mapping[str, object] | None = None,
    start: bool = True,
) -> Iterator[Cluster]:
    """A cluster for the time of the block, which starts it by itself if not `start`. Whoever is still meant to run at
    the end must run, stop cleanly, and have met no defect of its own."""
    cluster = Cluster(folder, nodes=nodes, balancer=balancer, settings=settings)
    try:
        if start:
            cluster.start()
        yield cluster
        assert [(one.name, one.end, one.last_words(40)) for one in cluster.died()] == []
        codes = cluster.stop()
        ours = [*cluster.nodes, cluster.accounts]
        unclean = [one for one in ours if codes[one.name] not in (0, -9)]
        assert [(one.name, codes[one.name], one.last_words(40)) for one in unclean] == []
        for one in ours:
            assert "Traceback" not in one.log.read_text(), one.log.read_text()[-4_000:]
    except BaseException as error:
        for one in [*cluster.nodes, cluster.accounts]:
            error.add_note(f"{one.name}:\n{one.last_words(40)}")
        raise
    finally:
        cluster.stop()
