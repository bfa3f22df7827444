"""The composition root's part for `aldis accounts`: the REST API as a process of its own, beside the nodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aldis.bridge.group_commit import GroupCommit
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.background import Background
from aldis.broker.compose_bus import Outlet, open_bus
from aldis.broker.compose_files import FileStorage
from aldis.broker.compose_http import http_server, open_ways
from aldis.broker.compose_metrics import MetricsDoor, measured, of_the_process
from aldis.broker.compose_secrets import master_keys, open_secrets
from aldis.broker.compose_store import StartFailed, open_accounts, open_store
from aldis.broker.compose_web import web_chat
from aldis.broker.logs import set_up_logging
from aldis.broker.ports import Store, StoreUnavailable
from aldis.broker.postbox import LocalPostbox, wall_clock
from aldis.broker.shutdown import SHUTTING_DOWN, Budget
from aldis.broker.store_watch import STORE_UNAVAILABLE
from aldis.broker.tls import Certificates, TlsError
from aldis.config.settings import FIXED, Settings, SettingsError

if TYPE_CHECKING:
    from aldis.accounts_api.metrics_page import MetricsPage
    from aldis.accounts_api.secrets_file import Secrets
    from aldis.bridge.accounts import Accounts
    from aldis.broker.http import HttpServer

logger = logging.getLogger(__name__)

STARTING = "starting"
_LOOK_EVERY = 1.0


class AccountsServer:
    """REST and nothing else. `start`, then `stop`; once. It migrates nothing, and waits for what another process
    migrates."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.certificates = Certificates()
        self.not_ready_reasons = {STARTING}
        self._door = MetricsDoor()
        self._page: MetricsPage | None = None
        self._background = Background()
        self._store: Store | None = None
        self._accounts: Accounts | None = None
        self._writer: GroupCommit | None = None
        self._outlet: Outlet | None = None
        self._http: HttpServer | None = None
        self._files: FileStorage | None = None

    @property
    def http_address(self) -> tuple[str, int] | None:
        return None if self._http is None else self._http.address

    def mqtt_addresses(self) -> dict[str, tuple[str, int]]:
        """None: MQTT is the nodes' affair."""
        return {}

    async def start(self) -> None:
        """Opens everything, HTTP last. What was opened is closed again if it fails."""
        try:
            self._door.configure(self.settings.plugins)
            way = open_ways(self.settings, self.certificates).get(("http",))
            secrets = await asyncio.to_thread(open_secrets, self.settings)
            app = await self._open(secrets)
            timeouts = self.settings.timeouts
            self._http = http_server(app, self.settings, way, lambda: timeouts.connect, self._background.spawn)
            await self._http.start()
            self._background.spawn(self._look_at_certificates(), "certificates")
            self.not_ready_reasons.discard(STARTING)
        except (StoreUnavailable, TlsError, OSError) as error:
            await self._close(Budget(self.settings.timeouts.shutdown))
            raise StartFailed(str(error)) from error
        except BaseException:
            await self._close(Budget(self.settings.timeouts.shutdown))
            raise

    async def _open(self, secrets: Secrets) -> Any:
        from aldis.accounts_api.app import create_app
        from aldis.accounts_api.operations import Operations
        from aldis.accounts_api.services import assemble

        settings, turn = self.settings, WriteTurn()
        self._store = await open_store(settings, turn, migrating=False)
        self._accounts = open_accounts(settings, master_keys(settings, secrets), turn)
        await self._accounts.check_master_keys()
        self._outlet = await open_bus(settings, secrets, self._accounts.directory)
        self._writer = GroupCommit(
            self._store,
            on_committed=self._outlet.committed,
            on_unavailable=lambda _: self.not_ready_reasons.add(STORE_UNAVAILABLE),
            on_recovered=lambda: self.not_ready_reasons.discard(STORE_UNAVAILABLE),
            retry=settings.timeouts.commit_retry,
            limit=settings.limits.commit_batch,
            linger=settings.timeouts.commit_linger,
        )
        self._writer.meanwhile = "the server's own messages wait until it is back"
        self._writer.start()
        self._files = FileStorage(settings, self._accounts)
        services = assemble(
            settings=settings.accounts,
            accounts=self._accounts,
            signing_key=secrets.signing_key,
            store=self._store,
            bus=self._outlet.bus,
            postbox=LocalPostbox(self._writer, wall_clock),
            now=wall_clock,
            operations=Operations(not_ready=lambda: self.not_ready_reasons, metrics=self._metrics),
            filing=self._files.filing,
            history=settings.history,
        )
        app = create_app(services, extra=web_chat(settings))
        outlet = self._outlet
        app, self._page = measured(app, services, alone=True, around=self._gauges, counted=outlet.counters)
        return app

    async def _metrics(self, peer: str, forwarded: bool) -> bytes | None:
        return None if self._page is None else await self._door.page(self._page.page, peer, forwarded)

    def _gauges(self) -> dict[str, float]:
        assert self._writer is not None and self._outlet is not None
        own = {
            "ready": not self.not_ready_reasons,
            "commit_pending": self._writer.pending,
            "store_available": self._writer.available,
        }
        return {**own, **of_the_process(), **self._outlet.gauges()}

    async def _look_at_certificates(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self.certificates.look(loop.time())
            await asyncio.sleep(_LOOK_EVERY)

    def reload(self, again: Callable[[], Settings]) -> bool:
        """For SIGHUP: logging, certificates and who may see the metrics at once, the rest at the next start. False:
        something is wrong, the old stays."""
        try:
            new = again()
            self._door.configure(new.plugins)
        except (SettingsError, StartFailed) as error:
            for problem in str(error).splitlines():
                logger.error("settings not reloaded: %s", problem)
            return False
        old = self.settings
        if new.logging != old.logging:
            set_up_logging(new.logging.level, new.logging.format)
        for name in (*FIXED, "limits", "timeouts"):
            if getattr(new, name) != getattr(old, name):
                logger.warning("%s has changed, which takes effect only at the next start", name)
        self.settings = old.model_copy(update={"logging": new.logging, "plugins": new.plugins})
        certificates = self.certificates.reload()
        logger.info("settings reloaded")
        return certificates

    async def stop(self) -> bool:
        """Answers the requests that run, commits what they posted, closes the back ends; all within
        `timeouts.shutdown`. False: something was given up, and threads may still hang in it."""
        budget = Budget(self.settings.timeouts.shutdown)
        self.not_ready_reasons.add(SHUTTING_DOWN)
        await self._close(budget)
        return budget.complete

    async def _close(self, budget: Budget) -> None:
        if self._files is not None:
            self._files.end_transfers()
        if self._http is not None and not await self._http.stop(budget.left(0.5)):
            budget.missed("an HTTP request")
        if self._files is not None:
            await self._files.close()
        if self._writer is not None:
            await budget.spend(0.7, "the group commit", self._writer.stop(budget.left(0.65)))
        if self._outlet is not None:
            await budget.spend(0.8, "telling the nodes", self._outlet.close())
        if self._accounts is not None:
            await budget.spend(0.9, "closing the accounts", self._accounts.close())
        if self._store is not None:
            await budget.spend(1.0, "closing the store", self._store.close())
        self._background.cancel()
        await self._background.settle(1.0)
