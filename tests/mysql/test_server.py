"""What a database server must be like: durable, with the right tables, with TLS where it is asked for."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aldis.bridge import mysql_migrate
from aldis.bridge.client_tls import tls_context
from aldis.bridge.migrate import MigrationRefused
from aldis.bridge.mysql import MySqlStore
from aldis.bridge.mysql_server import MySqlServer
from aldis.bridge.not_yet import NotYet
from aldis.bridge.schema import REVISION, metadata
from aldis.broker.ports import Batch, StoreUnavailable
from tests.contract.stores import chat, commit
from tests.databases import empty_database, migrated, new_name
from tests.mariadb import PASSWORD, MariaDb, new_server, shared_server


@contextmanager
def set_to(server: MariaDb, variable: str, value: object) -> Iterator[None]:
    ((before,),) = server.ask(f"SELECT @@GLOBAL.{variable}")
    server.ask(f"SET GLOBAL {variable} = {value}")
    try:
        yield
    finally:
        server.ask(f"SET GLOBAL {variable} = {before!r}")


async def opened(server: MySqlServer, **options: object) -> None:
    store = MySqlStore(server, **options)  # type: ignore[arg-type]
    try:
        await store.open()
        await commit(store, chat())
    finally:
        await store.close()


@pytest.fixture
def database(own_server: MariaDb) -> MySqlServer:
    return migrated(own_server, new_name())


# --- durability


@pytest.mark.parametrize("flush", [0, 2])
async def test_a_commit_that_is_not_on_disk_is_refused(own_server: MariaDb, database: MySqlServer, flush: int) -> None:
    with set_to(own_server, "innodb_flush_log_at_trx_commit", flush):
        with pytest.raises(StoreUnavailable, match=f"innodb_flush_log_at_trx_commit .* is {flush}: .*Set it to 1"):
            await opened(database)
        if flush == 0:
            with pytest.raises(StoreUnavailable, match="is 0"):
                await opened(database, flush_every_second=True)
        else:
            await opened(database, flush_every_second=True)
    await opened(database)


async def test_durability_is_looked_at_again_with_every_connection(own_server: MariaDb, database: MySqlServer) -> None:
    store = MySqlStore(database)
    await store.open()
    await commit(store, chat())
    own_server.stop()
    own_server.start("--innodb-flush-log-at-trx-commit=0")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await commit(store, chat())
    with pytest.raises(StoreUnavailable, match="innodb_flush_log_at_trx_commit"):
        await commit(store, chat())
    own_server.stop()
    own_server.start()
    for _ in range(2):
        try:
            assert (await commit(store, chat())).stored[0].n == 2
            break
        except StoreUnavailable:
            continue
    await store.close()


async def test_a_binary_log_must_be_as_durable() -> None:
    server = new_server("--log-bin=log", "--server-id=1", "--sync-binlog=0", "--binlog-format=ROW").start()
    database = migrated(server, new_name())
    with pytest.raises(StoreUnavailable, match=r"sync_binlog .* is 0"):
        await opened(database)
    await opened(database, flush_every_second=True)
    server.ask("SET GLOBAL sync_binlog = 1")
    await opened(database)
    server.ask("SET GLOBAL binlog_format = STATEMENT")
    with pytest.raises(StoreUnavailable, match=r"binlog_format .* STATEMENT"):
        await opened(database)
    server.stop()


# --- sizes


async def test_a_server_that_would_not_take_the_largest_message_is_refused(database: MySqlServer) -> None:
    await opened(database, largest=8_000_000)
    with pytest.raises(StoreUnavailable, match=r"max_allowed_packet .* is 16777216"):
        await opened(database, largest=8_400_000)


async def test_a_batch_larger_than_a_packet(own_server: MariaDb, database: MySqlServer) -> None:
    with set_to(own_server, "max_allowed_packet", 1_048_576):
        store = MySqlStore(database, largest=400_000)
        await store.open()
        # what has to be sent as digits takes twice its length
        contents = [bytes([39 + i % 60]) * (1 + 7_919 * i % 60_000) for i in range(200)] + [b"'" * 400_000, b"{}"]
        committed = await commit(store, *[chat(content=content, sync=True) for content in contents])
        await store.close()
    store = MySqlStore(database)
    await store.open()
    items = await store.items("bob", after=0, limit=500)
    assert [(item.n, item.mid, item.content) for item in items] == [
        (stored.n, stored.mid, content) for stored, content in zip(committed.stored, contents, strict=True)
    ]
    await store.close()


# --- what cannot be reached, or not entered


async def test_nobody_listens() -> None:
    with pytest.raises(StoreUnavailable, match=r"^127\.0\.0\.1:1/aldis: Can't connect") as refused:
        await opened(MySqlServer(f"mysql://aldis:{PASSWORD_IN_URL}@127.0.0.1:1/aldis"))
    assert "s3cret" not in repr(refused.value)


PASSWORD_IN_URL = "s3cret%20word%2F%40%3A%25"


async def test_errors_and_representations_keep_the_password(database: MySqlServer) -> None:
    assert "s3cret" not in repr(database)
    wrong = replace(database, password="another s3cret")
    with pytest.raises(StoreUnavailable, match="Access denied") as refused:
        await opened(wrong)
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(wrong)


async def test_a_password_beside_the_url(database: MySqlServer) -> None:
    bare = database.url.replace(f":{PASSWORD_IN_URL}", "")
    assert bare != database.url
    await opened(MySqlServer(bare, password=PASSWORD))


async def test_more_readers_than_connections(database: MySqlServer) -> None:
    store = MySqlStore(replace(database, pool_size=2))
    await store.open()
    await commit(store, *[chat() for _ in range(50)])
    pages = await asyncio.gather(*[store.items("bob", after=0, limit=100) for _ in range(200)])
    assert {len(page) for page in pages} == {50}
    await store.close()


# --- TLS


def certificate(folder: Path, host: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    import ipaddress

    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certfile, keyfile = folder / f"{host}.pem", folder / f"{host}.key"
    certfile.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    keyfile.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certfile, keyfile


async def test_tls(tmp_path: Path) -> None:
    certfile, keyfile = certificate(tmp_path, "127.0.0.1")
    other, _ = certificate(tmp_path, "127.0.0.2")
    server = new_server(f"--ssl-cert={certfile}", f"--ssl-key={keyfile}").start()
    plain = migrated(server, new_name())
    server.ask("ALTER USER aldis@'127.0.0.1' REQUIRE SSL")
    secure = replace(plain, tls=tls_context(certfile))
    await mysql_migrate.upgrade(secure)
    await opened(secure)
    with pytest.raises(StoreUnavailable, match="Access denied"):
        await opened(plain)
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await opened(replace(plain, tls=tls_context(other)))
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await opened(replace(plain, tls=tls_context(None)))
    server.stop()


async def test_a_server_without_tls_does_not_get_the_password(database: MySqlServer) -> None:
    """Or somebody in between who says so."""
    with pytest.raises(StoreUnavailable, match="TLS is required, and the server does not offer it"):
        await opened(replace(database, tls=tls_context(None)))


# --- tables


async def test_a_database_without_tables(own_server: MariaDb) -> None:
    name = new_name()
    own_server.ask(f"CREATE DATABASE {name}")
    with pytest.raises(NotYet, match="no tables yet: run `aldis migrate`"):
        await opened(MySqlServer(own_server.url(name)))


async def test_a_database_of_another_version(own_server: MariaDb, database: MySqlServer) -> None:
    name = database.address.database
    own_server.ask("UPDATE alembic_version SET version_num = '7777'", name)
    with pytest.raises(StoreUnavailable, match=r"revision 7777.*newer version") as refused:
        await opened(database)
    assert not isinstance(refused.value, NotYet)
    with pytest.raises(MigrationRefused, match=r"revision 7777.*newer version"):
        await mysql_migrate.upgrade(database)
    own_server.ask("UPDATE alembic_version SET version_num = '0001'", name)
    with pytest.raises(NotYet, match=f"revision 0001, this program needs {REVISION}: run `aldis migrate`"):
        await opened(database)


def test_the_tables_are_what_the_schema_declares() -> None:
    name, declared = empty_database().address.database, new_name()
    shared_server().ask(f"CREATE DATABASE {declared}")

    async def create() -> None:
        engine = MySqlServer(shared_server().url(declared)).engine(pooled=False)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await engine.dispose()

    asyncio.run(create())

    def columns(database: str | None) -> list[tuple[object, ...]]:
        return shared_server().ask(
            "SELECT table_name, column_name, column_type, is_nullable, column_default, extra, collation_name "
            f"FROM information_schema.columns WHERE table_schema = '{database}' AND table_name LIKE 'im!_%' ESCAPE '!' "
            "ORDER BY table_name, ordinal_position"
        )

    def indexes(database: str | None) -> list[tuple[object, ...]]:
        return shared_server().ask(
            "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics "
            f"WHERE table_schema = '{database}' AND table_name LIKE 'im!_%' ESCAPE '!' "
            "ORDER BY table_name, index_name, seq_in_index"
        )

    assert columns(name) == columns(declared)
    assert indexes(name) == indexes(declared)
    assert len(columns(name)) > 50


def test_every_name_compares_byte_by_byte() -> None:
    rows = shared_server().ask(
        "SELECT DISTINCT data_type FROM information_schema.key_column_usage JOIN information_schema.columns "
        "USING (table_schema, table_name, column_name) WHERE table_schema = "
        f"'{empty_database().address.database}' AND data_type IN ('varchar', 'char', 'text', 'varbinary') "
        "AND table_name LIKE 'im!_%' ESCAPE '!'"
    )
    assert rows == [("varbinary",)]


async def test_nodes_that_start_at_once_migrate_in_turn(own_server: MariaDb) -> None:
    name = new_name()
    own_server.ask(f"CREATE DATABASE {name}")
    server = MySqlServer(own_server.url(name))
    await asyncio.gather(*[mysql_migrate.upgrade(server) for _ in range(4)])
    assert await mysql_migrate.current_revision(server) == REVISION
    await mysql_migrate.upgrade(server)
    await opened(server)


async def test_a_migration_that_takes_too_long_elsewhere(
    own_server: MariaDb, database: MySqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_migrate, "LOCK_TIMEOUT", 0.2)
    engine = database.engine(pooled=False)
    async with engine.connect() as other:
        assert await other.scalar(mysql_migrate.LOCK, {"seconds": 1}) == 1
        with pytest.raises(MigrationRefused, match="another node"):
            await mysql_migrate.upgrade(database)
    await engine.dispose()
    await mysql_migrate.upgrade(database)


async def test_what_an_interrupted_first_migration_left_is_told(own_server: MariaDb) -> None:
    name = new_name()
    own_server.run_all([f"CREATE DATABASE {name}", f"CREATE TABLE {name}.im_user (x INT)"])
    with pytest.raises(MigrationRefused, match=r"has the tables im_user, but no revision.*drop them"):
        await mysql_migrate.upgrade(MySqlServer(own_server.url(name)))


async def test_migrating_what_cannot_be_reached() -> None:
    with pytest.raises(MigrationRefused, match="Can't connect"):
        await mysql_migrate.upgrade(MySqlServer("mysql://aldis@127.0.0.1:1/aldis"))


# --- settings of the session


async def test_the_servers_default_modes_do_not_matter(own_server: MariaDb, database: MySqlServer) -> None:
    with set_to(own_server, "sql_mode", "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'"):
        store = MySqlStore(database)
        await store.open()
        content = b'{"body":"it\'s \\\\ \\" \x00 \x1a %s \xff"}'
        await commit(store, chat('"it\'s \\\\"', sender="o'\\", to="b\"'", content=content))
        (item,) = await store.items("b\"'", after=0, limit=5)
        assert (item.content, item.sender) == (content, "o'\\")
        with pytest.raises(Exception, match="Data too long"):
            await store.commit(Batch([chat(to="x" * 300)]))
        await store.close()
