"""A real HTTP server on a free port, over a real database; the message side is played by recorders."""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import shutil
import ssl
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from aldis.accounts_api.app import create_app
from aldis.accounts_api.filing import Filing
from aldis.accounts_api.services import Services, assemble
from aldis.bridge import migrate
from aldis.bridge.accounts import Accounts, Database, open_engine
from aldis.bridge.blobs import Blobs
from aldis.bridge.disk_blobs import DiskBlobs
from aldis.bridge.memory import MemoryStore
from aldis.bridge.write_turn import WriteTurn
from aldis.broker.ports import Announcement, BusHandler, Store, StoreUnavailable
from aldis.broker.postbox import wall_clock
from aldis.config.files import Files as FilesSettings
from aldis.config.settings import Accounts as AccountsSettings
from tests.databases import empty_database

PASSWORD = "correct horse battery"
SIGNING_KEY = b"s" * 32
MASTER_KEY = b"m" * 32
_NOBODY_IS_TRUSTED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""To read all certificates of this machine takes a while, and there is no TLS here."""


class RecordingBus:
    """`settling` is what the last call of `settled` found announced; `settles` is its answer."""

    def __init__(self) -> None:
        self.announced: list[Announcement] = []
        self.numbers: list[int] = []
        self.settling: list[Announcement] = []
        self.settles = True

    def announce(self, announcement: Announcement, number: int = 0) -> None:
        self.announced.append(announcement)
        self.numbers.append(number)

    async def settled(self) -> bool:
        self.settling = list(self.announced)
        return self.settles

    def subscribe(self, handler: BusHandler) -> None:
        raise AssertionError("the accounts side only speaks")


class RecordingPostbox:
    def __init__(self) -> None:
        self.posted: list[tuple[str, dict[str, Any]]] = []
        self.broken = False

    async def post(self, user: str, content: Sequence[bytes]) -> None:
        if self.broken:
            raise StoreUnavailable("no")
        self.posted += [(user, json.loads(entry)) for entry in content]

    async def post_to(self, users: Sequence[str], content: bytes, *, id: str) -> None:
        if self.broken:
            raise StoreUnavailable("no")
        self.posted += [(user, json.loads(content)) for user in users]


@functools.cache
def _migrated() -> Path:
    """A database as the migrations make it, for every test to copy."""
    file = Path(tempfile.mkdtemp(prefix="aldis-accounts-")) / "aldis.db"
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    migrate.upgrade(f"sqlite+aiosqlite:///{file}")
    return file


class World:
    """One running server and its recorders. `shift` milliseconds are added to the wall clock."""

    def __init__(
        self,
        folder: Path,
        settings: AccountsSettings,
        *,
        back_end: str = "sqlite",
        store: Store | None = None,
        files: FilesSettings | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        self.settings = settings
        self.turn: WriteTurn | nullcontext[None]
        if back_end == "mysql":
            self.engine = empty_database("aldis_accounts").engine()
            self.turn = nullcontext()
        else:
            shutil.copy(_migrated(), folder / "aldis.db")
            self.engine = open_engine(f"sqlite+aiosqlite:///{folder}/aldis.db", busy_timeout=5.0)
            self.turn = WriteTurn()
        self.database = Database(self.engine, self.turn)
        self.accounts = Accounts(
            self.database,
            master_key=MASTER_KEY,
            max_friends=settings.max_friends,
            max_requests=settings.max_friend_requests,
        )
        self.bus = RecordingBus()
        self.postbox = RecordingPostbox()
        self.store = store or MemoryStore()
        self.shift = 0
        self.pool = ThreadPoolExecutor(4)
        self.blobs = blobs or DiskBlobs(folder / "files", self.pool)
        self.filing = Filing(
            self.accounts.files, self.accounts.file_cleaning, self.blobs, self.pool, files or FilesSettings(), self.now
        )
        self.services: Services = assemble(
            settings=settings,
            accounts=self.accounts,
            signing_key=SIGNING_KEY,
            store=self.store,
            bus=self.bus,
            postbox=self.postbox,
            now=self.now,
            filing=self.filing,
        )
        self.app = create_app(self.services)
        self.client: httpx.AsyncClient

    def now(self) -> int:
        return wall_clock() + self.shift

    async def start(self) -> None:
        config = uvicorn.Config(self.app, host="127.0.0.1", port=0, log_config=None, lifespan="on", proxy_headers=False)
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.005)
            assert not self._serving.done(), "the server did not start"
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False, verify=_NOBODY_IS_TRUSTED
        )

    async def stop(self) -> None:
        await self.client.aclose()
        self._server.should_exit = True
        await self._serving
        await self.accounts.close()
        self.pool.shutdown()

    async def register(self, *users: str) -> None:
        for user in users:
            body = {"user_id": user, "password": PASSWORD}
            assert (await self.client.post("/v1/users", json=body)).status_code == 201

    async def tokens(self, user: str, device: str = "phone") -> dict[str, Any]:
        body = {"user_id": user, "password": PASSWORD, "device_id": device}
        answer = await self.client.post("/v1/login", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def enter(self, *users: str) -> list[Caller]:
        """Registers the users and logs each in on "phone"."""
        await self.register(*users)
        return [Caller(self, user, await self.tokens(user)) for user in users]

    async def befriend(self, one: Caller, other: Caller) -> None:
        assert (await one.post("/v1/friend-requests", {"to": other.user})).status_code == 200
        assert (await other.post(f"/v1/friend-requests/{one.user}/accept")).status_code == 200


class Caller:
    """One logged-in user, calling."""

    def __init__(self, world: World, user: str, tokens: dict[str, Any]) -> None:
        self.world = world
        self.user = user
        self.tokens = tokens
        self.headers = {"Authorization": f"Bearer {tokens['access_token']}"}

    async def get(self, path: str) -> httpx.Response:
        return await self.world.client.get(path, headers=self.headers)

    async def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return await self.world.client.post(path, json=body, headers=self.headers)

    async def put(self, path: str) -> httpx.Response:
        return await self.world.client.put(path, headers=self.headers)

    async def delete(self, path: str) -> httpx.Response:
        return await self.world.client.delete(path, headers=self.headers)


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    """The answer is a complete RFC 9457 document of this status and type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    document = answer.json()
    assert document["type"] == f"urn:aldis:problem:{slug}", document
    assert document["status"] == status
    assert document["title"] and document["detail"]
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
