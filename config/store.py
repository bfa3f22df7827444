"""Where messages and accounts are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from aldis.config.entrance import file_problem, key_problem
from aldis.config.section import Positive, Seconds, Section

_SCHEMES = ("mysql", "mariadb")


def _database_url(url: SecretStr) -> SecretStr:
    """The texts must not name the value: it is a secret."""
    try:
        parts = urlsplit(url.get_secret_value())
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address; a password in it must be percent-encoded") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("must begin with mysql:// or mariadb://")
    if not parts.username or not parts.path.strip("/") or "/" in parts.path.strip("/"):
        raise ValueError("must have the form mysql://USER@HOST:PORT/DATABASE")
    if parts.fragment or set(parse_qs(parts.query)) - {"unix_socket"}:
        raise ValueError("may have no option but unix_socket; what else there is to say has a setting of its own")
    return url


class DatabaseTls(Section):
    ca_file: Path | None = None
    """PEM file: the authority that signed the database server's certificate. Without it those the system trusts."""
    certfile: Path | None = None
    """PEM file: our own certificate, where the database server asks for one."""
    keyfile: Path | None = None
    """PEM file: its private key. Refused if everybody on the machine may read it."""


class StoreSettings(Section):
    backend: Literal["sqlite", "mysql", "memory", "none"] = "sqlite"
    """`mysql` is MySQL or MariaDB, `none` makes a plain MQTT broker without inboxes (the lab profile)."""
    accept: Literal["commit", "journal"] = "commit"
    """What a message to an inbox is acknowledged for: `commit`, the database has it; `journal`, Redis has it in its
    append-only file, and it is stored as soon as the database takes it (only with `cluster`)."""
    file: str = "aldis.db"
    """SQLite file, relative to the data folder."""
    busy_timeout: Seconds = 5.0
    """Seconds to wait for another process's lock on the SQLite database before calling it unavailable."""
    cache_size: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    """Bytes of database pages kept in memory by each of the message store's two connections to SQLite. 64 MiB hold the
    inboxes in use on a busy small server; memory grows to that as the database does."""
    url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None
    """`mysql://USER:PASSWORD@HOST:PORT/DATABASE`. Never shown. Better without the password: see `password_file`."""
    password_file: Path | None = None
    """File with the database user's password in its first line, as container secrets are given; instead of one in
    `url`. Refused if everybody on the machine may read it."""
    pool_size: Positive = 10
    """Connections that read messages, and as many for the accounts; commits and claims have two more. One reads out
    some thousand backlogs a second; a hundred nodes of 22 still fit a server that allows 2,500."""
    connect_timeout: Seconds = 5.0
    """Seconds to connect to the database and log in, before it is called unavailable."""
    answer_timeout: Seconds = 10.0
    """Seconds to wait for the answer to one statement. A commit of a thousand messages takes 20 ms; a lock is waited
    for half as long as this, and a transaction whose node has vanished is ended by the server after three times as
    long."""
    wait_at_start: Annotated[float, Field(ge=0)] = 60.0
    """Seconds that a start waits for a database server that is not there yet, or whose tables another process has still
    to make: nobody need care in which order things start. What waiting cannot heal, such as a wrong password, ends the
    start at once."""
    pause_timeout: Seconds = 3.0
    """Seconds that a transaction may stand still between two statements before the database server ends it: a node that
    is frozen there, or cut off, holds locks that the others wait for. In whole seconds, rounded up."""
    flush_every_second: bool = False
    """Accept a database server with `innodb_flush_log_at_trx_commit` 2 (or `sync_binlog` other than 1): it survives a
    crash of its own, but a power cut costs the last second, acknowledged messages included."""
    tls: DatabaseTls | None = None
    """TLS to the database server, whose certificate must be good for the host in `url`. Without it the connection is
    plain: for a server on this machine or in a network of its own."""


def store_problems(store: StoreSettings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong although every single value is right: the key below `store`, and why. Looks at the files."""
    if store.backend != "mysql":
        for name in ("url", "password_file", "tls"):
            if getattr(store, name) is not None:
                yield (name,), f"has no meaning where store.backend is {store.backend}"
        return
    if store.url is None:
        yield ("url",), "must be given where store.backend is mysql"
    elif store.password_file is not None and urlsplit(store.url.get_secret_value()).password is not None:
        yield ("password_file",), "there is a password in store.url already"
    tls = store.tls or DatabaseTls()
    if (tls.certfile is None) != (tls.keyfile is None):
        yield ("tls",), "certfile and keyfile go together"
    files = {("password_file",): store.password_file, ("tls", "keyfile"): tls.keyfile}
    for key, path in {**files, ("tls", "ca_file"): tls.ca_file, ("tls", "certfile"): tls.certfile}.items():
        problem = None if path is None else file_problem(path)
        if problem is None and path is not None and key in files:
            problem = key_problem(path)
        if problem is not None:
            yield key, problem
