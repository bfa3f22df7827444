"""A whole cluster on this machine, without containers: `make cluster`, and a library for tests and benchmarks.

    python -m scripts.cluster [--nodes 3] [--no-balancer] [--free-ports] [--journal] [--data DIR]

MariaDB and Redis, `aldis migrate`, nodes (`aldis node`), the REST API (`aldis accounts`), and a small balancer in front
of the nodes; each a process with a log of its own. Everything listens on 127.0.0.1. Ctrl-C stops it all; the messages
stay in the data folder.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from scripts.backends import MariaDb, Redis
from scripts.processes import DidNotStart, Process, free_port

Address = tuple[str, int]
ANY: Address = ("127.0.0.1", 0)
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
"""What Redis needs where messages are acknowledged for being in it (`store.accept: journal`)."""
WEB_CHAT_LOOKS_AT = 8083
"""The port on which the web chat finds MQTT unless it is told another."""
ALDIS = Path(sys.executable).with_name("aldis")
ROOT = Path(__file__).resolve().parents[1]


class Aldis(Process):
    """`aldis node` or `aldis accounts`. Set what you like before `start`: `settings` (`limits.max_inflight`),
    `mysql_port` and `redis_port` (those of a proxy, say; None: the real ones). Port 0 stands for a free one."""

    def __init__(self, cluster: Cluster, role: str, name: str, *, mqtt: Address, ws: Address, http: Address) -> None:
        super().__init__(name, cluster.logs / f"{name}.log")
        self.role, self._cluster = role, cluster
        self.mqtt, self.ws, self.http = _with_port(mqtt), _with_port(ws), _with_port(http)
        self.mysql_port: int | None = None
        self.redis_port: int | None = None
        self.settings: dict[str, object] = {}
        self._said = cluster.logs / f"{name}.out"

    def begin(self) -> None:
        """See `wait`, which must follow."""
        flags = {"http": self.http} | ({"mqtt": self.mqtt, "ws": self.ws} if self.role == "node" else {})
        command = [str(ALDIS), self.role, "--node", self.name, "--data", str(self._cluster.folder)]
        command += [f"--{name}={host}:{port}" for name, (host, port) in flags.items()]
        self._said.parent.mkdir(parents=True, exist_ok=True)
        self._said.write_bytes(b"")
        # what it says on its standard output is short, and tells its addresses
        self.launch(["/bin/sh", "-c", f'exec "$@" >"{self._said}"', "sh", *command], self._environment())

    def wait(self) -> None:
        """Returns when it is ready. Raises `DidNotStart`."""
        self.wait_until(lambda: self._said.read_text().endswith("ready\n"))
        for scheme, host, port in re.findall(r"(mqtt|ws|http)s?://([\d.]+):(\d+)", self._said.read_text()):
            setattr(self, scheme, (host, int(port)))

    def start(self) -> None:
        self.begin()
        self.wait()

    def restart(self) -> None:
        """Cleanly stopped if it runs, then started on the same addresses."""
        self.stop()
        self.start()

    def _environment(self) -> dict[str, str]:
        mysql, redis = self._cluster.mysql, self._cluster.redis
        given = {
            "store.url": mysql.url(self.mysql_port),
            "store.password_file": mysql.password_file,
            "cluster.redis_url": redis.url(self.redis_port),
            "cluster.redis_password_file": redis.password_file,
            "accounts.secret_file": self._cluster.secrets.absolute(),
            **self._cluster.settings,
            **self.settings,
        }
        return environment(given)


def _with_port(address: Address) -> Address:
    host, port = address
    return host, port or free_port()


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Ours without any `ALDIS_` variable, and these settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ALDIS_")}
    return clean | {f"ALDIS_{key.upper().replace('.', '__')}": str(value) for key, value in settings.items()}


class Balancer(Process):
    """`scripts.balancer` in front of all nodes: `mqtt` and `ws` are its addresses."""

    def __init__(self, cluster: Cluster, *, mqtt: Address, ws: Address) -> None:
        super().__init__("balancer", cluster.logs / "balancer.log")
        self._cluster = cluster
        self.mqtt, self.ws = mqtt, ws

    def start(self) -> None:
        nodes = self._cluster.nodes
        pairs = [
            f"{_text(listen)}={','.join(_text(target) for target in targets)}"
            for listen, targets in ((self.mqtt, [one.mqtt for one in nodes]), (self.ws, [one.ws for one in nodes]))
        ]
        begun = self.log.stat().st_size if self.log.exists() else 0
        self.launch([sys.executable, "-m", "scripts.balancer", *pairs], {**os.environ, "PYTHONPATH": str(ROOT)})
        self.wait_until(lambda: self.log.read_text()[begun:].endswith("ready\n"))
        found = re.findall(r"listening on ([\d.]+):(\d+)", self.log.read_text()[begun:])
        self.mqtt, self.ws = ((host, int(port)) for host, port in found)


class Cluster:
    """`start`, then `stop`. `settings` are for every process of ours; those of one node are set on it. Its parts may be
    killed, paused and restarted at will: `mysql`, `redis`, `nodes[i]`, `accounts`, `balancer`.

    With `store.accept: journal` among the settings Redis keeps what it acknowledges. Without `fixed` every address is
    free; with it they are those that `make cluster` prints.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 2,
        balancer: bool = True,
        fixed: bool = False,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        def port(number: int) -> Address:
            return "127.0.0.1", number if fixed else 0

        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self.secrets = self.folder / "secrets.json"
        self.settings = dict(settings or {})
        self.mysql = MariaDb(self.folder / "mariadb", self.logs / "mariadb.log")
        journal = self.settings.get("store.accept") == "journal"
        self.redis = Redis(self.folder / "redis", self.logs / "redis.log", options=DURABLE if journal else ())
        self.nodes = [
            Aldis(self, "node", f"node-{i}", mqtt=port(1890 + i), ws=port(8090 + i), http=port(8010 + i))
            for i in range(1, nodes + 1)
        ]
        self.accounts = Aldis(self, "accounts", "accounts", mqtt=ANY, ws=ANY, http=port(8000))
        self.balancer = Balancer(self, mqtt=port(1883), ws=port(8083)) if balancer else None
        self._say_where_mqtt_is(fixed)

    def _say_where_mqtt_is(self, fixed: bool) -> None:
        """To the web chat, which the accounts serve: they have no listener for MQTT. So the balancer's port is chosen
        now; with nodes alone on ports of their own choice there is nothing to say."""
        if self.balancer is not None and not fixed:
            self.balancer.ws = "127.0.0.1", free_port()
        entry = self.nodes[0] if self.balancer is None else self.balancer
        if entry.ws[1] not in (0, WEB_CHAT_LOOKS_AT):
            self.accounts.settings["web.mqtt_url"] = f"ws://{_text(entry.ws)}"

    @property
    def processes(self) -> list[Process]:
        """In the order in which they may be stopped."""
        first = [] if self.balancer is None else [self.balancer]
        return [*first, self.accounts, *self.nodes, self.redis, self.mysql]

    def start(self) -> None:
        """Returns when everybody is ready. Raises `DidNotStart`; then nothing is left running."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.mysql.start()
            self.redis.start()
            if not self.secrets.exists():
                self._run("secrets", "make", str(self.secrets))
            self._run("migrate", "--config", "node")
            for one in (*self.nodes, self.accounts):
                one.begin()
            for one in (*self.nodes, self.accounts):
                one.wait()
            if self.balancer is not None:
                self.balancer.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> dict[str, int | None]:
        """Who is there no more loses nothing by it; the exit codes by name. Idempotent."""
        codes: dict[str, int | None] = {}
        ours = [one for one in self.processes if one not in (self.mysql, self.redis)]
        for group in (ours, [self.redis], [self.mysql]):
            for one in group:
                one.begin_to_stop()
            codes |= {one.name: one.stop() for one in group}
        return codes

    def died(self) -> list[Process]:
        """Those who have ended without being told to."""
        return [one for one in self.processes if one.died]

    def _run(self, *arguments: str) -> None:
        settings = {"store.url": self.mysql.url(), "store.password_file": self.mysql.password_file}
        done = subprocess.run(
            [str(ALDIS), *arguments], env=environment(settings), check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise DidNotStart(f"aldis {' '.join(arguments)}: {done.stdout}{done.stderr}")


def _text(address: Address) -> str:
    return "{}:{}".format(*address)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Nobody else may run a cluster in this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DidNotStart(f"a cluster runs in {folder} already") from None
        yield


def _tell(cluster: Cluster) -> None:
    for one in cluster.nodes:
        print(f"{one.name:10} mqtt://{_text(one.mqtt)}  ws://{_text(one.ws)}  http://{_text(one.http)}/readyz")
    print(f"{'accounts':10} http://{_text(cluster.accounts.http)}/docs")
    if cluster.balancer is not None or "web.mqtt_url" in cluster.accounts.settings:
        print(f"{'web chat':10} http://{_text(cluster.accounts.http)}/")
    if cluster.balancer is not None:
        print(f"{'balancer':10} mqtt://{_text(cluster.balancer.mqtt)}  ws://{_text(cluster.balancer.ws)}")
    print(f"{'mariadb':10} 127.0.0.1:{cluster.mysql.port}")
    print(f"{'redis':10} 127.0.0.1:{cluster.redis.port}")
    print(f"{'logs':10} {cluster.logs}")
    print("ready", flush=True)


def _watch(cluster: Cluster) -> int:
    """Until a signal (0) or a death (1)."""
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    while not stopped:
        for one in cluster.died():
            print(f"{one.name} {one.end}; its log, {one.log}, ends with\n{one.last_words()}", file=sys.stderr)
            return 1
        time.sleep(0.2)
    return 0


def main() -> int:
    """0 stopped by Ctrl-C; 1 something did not start, has died, or did not stop cleanly."""
    parser = argparse.ArgumentParser(prog="make cluster ARGS=…", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=2, metavar="N", choices=range(1, 10), help="1 to 9; default: 2")
    parser.add_argument("--no-balancer", action="store_true", help="nodes only, each on ports of its own")
    parser.add_argument("--free-ports", action="store_true", help="whatever ports are free, in place of the usual ones")
    parser.add_argument("--journal", action="store_true", help="acknowledge what Redis has (store.accept: journal)")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "cluster", metavar="DIR")
    options = parser.parse_args()
    cluster = Cluster(
        options.data,
        nodes=options.nodes,
        balancer=not options.no_balancer,
        fixed=not options.free_ports,
        settings={"store.accept": "journal"} if options.journal else None,
    )
    try:
        with _alone_in(options.data):
            cluster.start()
            _tell(cluster)
            code = _watch(cluster)
            print("stopping", flush=True)
            codes = cluster.stop()
    except DidNotStart as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        cluster.stop()
        return 1
    unclean = {name: code for name, code in codes.items() if code not in (0, None)}
    if unclean and code == 0:
        print(f"not stopped cleanly: {unclean}", file=sys.stderr)
    return 1 if unclean else code


if __name__ == "__main__":
    sys.exit(main())
