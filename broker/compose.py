"""The composition root: the one place that knows every room and puts a server together from its settings.

Heavy rooms (SQLAlchemy, Litestar, Alembic) are imported where they are needed, so that `aldis --help` and the lab
profile start at once."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING, Any

from aldis.bridge.bus import LocalBus
from aldis.bridge.credentials import AccessTokens
from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.arrival import Way
from aldis.broker.cluster import Cluster
from aldis.broker.compose_cluster import alone, among_others, links
from aldis.broker.compose_files import FileStorage
from aldis.broker.compose_http import http_server, open_ways
from aldis.broker.compose_metrics import measured
from aldis.broker.compose_secrets import master_keys, open_secrets
from aldis.broker.compose_store import StartFailed, open_accounts, open_store
from aldis.broker.compose_web import web_chat
from aldis.broker.connector import Connector, ConnectorError
from aldis.broker.inboxes import Inboxes
from aldis.broker.node import STARTING, Node
from aldis.broker.ports import Bus, Store, StoreUnavailable, Writer
from aldis.broker.postbox import LocalPostbox, wall_clock
from aldis.broker.retained_keeper import RetainedKeeper
from aldis.broker.seen_notes import SeenNotes
from aldis.broker.shutdown import SHUTTING_DOWN, Budget
from aldis.broker.tls import Certificates, TlsError
from aldis.config.settings import METRICS, Settings, serves_http
from aldis.plugins.services import Services

if TYPE_CHECKING:
    from aldis.accounts_api.metrics_page import MetricsPage
    from aldis.accounts_api.operations import Operations
    from aldis.accounts_api.secrets_file import Secrets
    from aldis.bridge.accounts import Accounts
    from aldis.broker.compose_journal import JournalSide
    from aldis.broker.http import HttpServer
    from aldis.config.limits import Limits, Timeouts

logger = logging.getLogger(__name__)


class Server:
    """A whole server in one process. `start`, then `stop`; once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        loop = asyncio.get_running_loop()
        self.node = Node(settings.limits, settings.timeouts, loop)
        self.connector = Connector(_amqtt_config(settings), self.node, loop)
        self.certificates = Certificates()
        self.bus: Bus = LocalBus()
        self._cluster: Cluster | None = None
        self._turn = WriteTurn()
        self._store: Store | None = None
        self._accounts: Accounts | None = None
        self._writer: GroupCommit | None = None
        self._journal: JournalSide | None = None
        self._keeper: RetainedKeeper | None = None
        self._http: HttpServer | None = None
        self._files: FileStorage | None = None
        self._http_way: Way | None = None
        self._rest_page: MetricsPage | None = None

    @property
    def http_address(self) -> tuple[str, int] | None:
        return None if self._http is None else self._http.address

    def mqtt_addresses(self) -> dict[str, tuple[str, int]]:
        """By listener name, with the ports really bound."""
        return self.connector.addresses()

    async def start(self) -> None:
        """Opens everything, listeners last: whoever can connect is served. What was opened is closed again if it
        fails."""
        try:
            self._open_ways()
            if self.settings.store.backend != "none":
                await self._start_inboxes()
            self.connector.load_plugins()
            if self._http is None and serves_http(self.settings):
                from aldis.accounts_api.app import create_operations_app

                self._http = self._http_on(create_operations_app(self._operations()))
            if self._http is not None:
                await self._http.start()
            await self.connector.start()
            self.node.not_ready_reasons.discard(STARTING)
        except (ConnectorError, StoreUnavailable, TlsError, OSError) as error:
            await self._close()
            raise StartFailed(str(error)) from error
        except BaseException:
            await self._close()
            raise
        gc.collect()
        # What is alive now stays alive: the collector need not walk it again and again. And a busy node makes thousands
        # of short-lived objects per tick, hardly any in cycles, so it is worth looking for those less often.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    def _open_ways(self) -> None:
        """TLS and balancers in front of the listeners. Raises `TlsError`."""
        ways = open_ways(self.settings, self.certificates)
        self.connector.ways = {str(key[1]): way for key, way in ways.items() if key[0] == "listeners"}
        self._http_way = ways.get(("http",))
        self.node.on_tick.append(self.certificates.look)

    def reload_certificates(self) -> bool:
        """Reads every certificate again, for connections from now on; those there go on as they are. False, and errors
        in the log, where a new pair is no good: its old one stays in use."""
        return self.certificates.reload()

    async def _start_inboxes(self) -> None:
        settings = self.settings
        if settings.cluster is None:
            # what people write to each other is for nobody else on this machine
            settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        secrets = await asyncio.to_thread(open_secrets, settings)
        # where there are accounts processes, migrating is a step of its own
        migrating = settings.cluster is None or settings.accounts.enabled
        self._store = await open_store(settings, self._turn, migrating=migrating)
        inboxes = Inboxes(self.node, self._store, wall_clock)
        writer = GroupCommit(
            self._store,
            on_committed=inboxes.committed,
            on_unavailable=self.node.store.refused,
            on_recovered=self.node.store.recovered,
            on_measured=self.node.figures.committed,
            retry=settings.timeouts.commit_retry,
            limit=settings.limits.commit_batch,
            linger=settings.timeouts.commit_linger,
        )
        writer.start()
        self._writer = inboxes.writer = writer
        if settings.cluster is not None:
            from aldis.broker.compose_journal import open_journal

            self._journal = await open_journal(settings, inboxes, writer)
        self._accounts = open_accounts(settings, master_keys(settings, secrets), self._turn)
        if settings.accounts.enabled:
            await self._accounts.check_master_keys()
        self._keeper = RetainedKeeper(self.node, self._store)
        self._keeper.start()
        self.node.on_tick.append(SeenNotes(inboxes).on_tick)
        if settings.cluster is None:
            holdings = await alone(self.node)
        else:
            way = links(settings.cluster, secrets.transfer_key)
            self._cluster, self.bus = among_others(
                inboxes, way, self.bus, self._accounts.directory, self._keeper, settings.cluster
            )
            holdings = self._cluster.holdings
            accepting = None if self._journal is None else self._journal.writer
            inboxes.receipts.committing = (accepting or writer).committing
        self.bus.subscribe(inboxes.on_announcement)
        self.bus.subscribe(self.node.on_announcement)
        self.connector.services = Services(
            settings=settings,
            node=self.node,
            inboxes=inboxes,
            directory=self._accounts.directory,
            tokens=AccessTokens(secrets.signing_key),
            bus=self.bus,
            holdings=holdings,
            now_ms=wall_clock,
            cluster=self._cluster,
            journal=self._journal,
        )
        if self._cluster is not None:
            await self._cluster.open()
        if self._journal is not None:
            if inboxes.acceptance is not None:
                self.bus.subscribe(inboxes.acceptance.on_announcement)
            self._journal.start()
            await self._journal.emptied(settings.store.wait_at_start)
        if settings.accounts.enabled:
            self._http = self._http_server(secrets, writer)

    def _http_server(self, secrets: Secrets, writer: Writer) -> HttpServer:
        from aldis.accounts_api.app import create_app
        from aldis.accounts_api.services import assemble

        assert self._accounts is not None and self._store is not None
        self._files = FileStorage(self.settings, self._accounts)
        services = assemble(
            settings=self.settings.accounts,
            accounts=self._accounts,
            signing_key=secrets.signing_key,
            store=self._store,
            bus=self.bus,
            postbox=LocalPostbox(writer, wall_clock),
            now=wall_clock,
            operations=self._operations(),
            filing=self._files.filing,
            history=self.settings.history,
        )
        app = create_app(services, extra=web_chat(self.settings, self.mqtt_addresses))
        app, self._rest_page = measured(app, services, alone=False)
        return self._http_on(app)

    def _operations(self) -> Operations:
        from aldis.accounts_api.operations import Operations

        return Operations(not_ready=lambda: self.node.not_ready_reasons, look=self._look, metrics=self._metrics_page)

    async def _look(self) -> None:
        if self._store is not None:
            # no user has an empty name, so the answer is 0, but the store had to look
            await self._store.head("")

    async def _metrics_page(self, peer: str, forwarded: bool) -> bytes | None:
        from aldis.accounts_api.operations import NotForYou

        plugin: Any = self.connector.plugin(METRICS)
        if plugin is None:
            return None
        if not plugin.may_ask(peer, forwarded):
            raise NotForYou("the metrics are for this machine, and for the networks that the plugin allows")
        page: bytes = await plugin.page()
        return page if self._rest_page is None else page + self._rest_page.page()

    def _http_on(self, app: Any) -> HttpServer:
        node = self.node
        return http_server(app, self.settings, self._http_way, lambda: node.timeouts.connect, node.spawn)

    def configure(self, limits: Limits, timeouts: Timeouts) -> None:
        """Other limits and time-outs from now on, as far as `Node.configure` says."""
        self.node.configure(limits, timeouts)
        if self._writer is not None:
            self._writer.configure(
                retry=timeouts.commit_retry, limit=limits.commit_batch, linger=timeouts.commit_linger
            )
        if self._journal is not None:
            self._journal.configure(limits, timeouts)

    def accept(self, settings: Settings) -> None:
        """These are the settings now; whoever looks something up in them finds the new."""
        self.settings = settings
        if isinstance(self.connector.services, Services):
            self.connector.services.settings = settings

    async def stop(self) -> bool:
        """Stops accepting, commits what was taken and acknowledges it, ends the connections, closes the back ends; all
        within `timeouts.shutdown`. False: something was given up, and threads may still hang in it."""
        budget = Budget(self.node.timeouts.shutdown)
        self.node.not_ready_reasons.add(SHUTTING_DOWN)
        self.connector.stop_listening()
        if self._cluster is not None:
            self._cluster.holdings.leave_behind()
        if self._journal is not None:
            await budget.spend(0.4, "the last append to the journal", self._journal.drained())
        if self._writer is not None:
            # a store that takes nothing: nothing is acknowledged, and the senders still have their messages
            await budget.spend(0.5, "the last commit", self._writer.flush())
        transports = [one.transport for one in self.node.connections if one.transport is not None]
        await budget.spend(0.6, "telling the plugins", self.connector.shutdown())
        await budget.drain(0.75, transports)
        await self._close(budget)
        return budget.complete

    async def _close(self, budget: Budget | None = None) -> None:
        budget = budget or Budget(self.node.timeouts.shutdown)
        self.node.stop()
        if self._files is not None:
            self._files.end_transfers()
        if self._http is not None and not await self._http.stop(budget.left(0.8)):
            budget.missed("an HTTP request")
        if self._files is not None:
            await self._files.close()
        if self._keeper is not None:
            await budget.spend(0.85, "writing retained messages", self._keeper.stop())
        if self._journal is not None:
            await budget.spend(0.87, "the journal", self._journal.close(budget.left(0.86)))
        if self._writer is not None:
            await budget.spend(0.9, "the group commit", self._writer.stop(budget.left(0.85)))
        if self._cluster is not None:
            await budget.spend(0.93, "leaving the cluster", self._cluster.close())
        if self._accounts is not None:
            await budget.spend(0.95, "closing the accounts", self._accounts.close())
        if self._store is not None:
            await budget.spend(1.0, "closing the store", self._store.close())


def _amqtt_config(settings: Settings) -> dict[str, Any]:
    return {
        "listeners": {
            name: listener.model_dump(include={"type", "bind", "max_connections"})
            for name, listener in settings.listeners.items()
        },
        "plugins": {path: dict(options) for path, options in settings.plugins.items()},
    }
