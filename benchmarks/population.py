"""Makes the users that the durable scenarios need, in pairs of friends: number 0 with 1, 2 with 3, and so on.

Few users are registered as anybody is, over REST, and log in for a JWT. Thousands would cost a password hash each,
which is not what is measured: `insert_pairs` writes their rows into the SQLite file of a stopped server whose tables
exist (`insert_pairs_mysql` into MariaDB), and gives each a long-lived device token, of which the table holds only the
SHA-256.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
import sqlite3
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.servers import HOST, Server

Account = dict[str, str]
"""`user`, `device` and `token` (the MQTT password) of one user."""

FRIENDS = 3
"""State of a relation that both have agreed to, as the table holds it."""
TOKEN_PREFIX = "aldis_dt_"
PASSWORD = "correct horse battery staple"
DEVICE = "bench"
CREATED = 1_700_000_000_000
"""Unix milliseconds: long ago, so that no figure depends on when the benchmark runs."""


class PopulationError(Exception):
    """The REST API did not do what the set-up asked of it."""


def register_pairs(server: Server, users: int) -> list[Account]:
    """Registers `users` users, logs each in on one device, and befriends them in pairs, all over REST."""
    names = [_name(number) for number in range(users)]
    with ThreadPoolExecutor(4) as pool:
        accounts = list(pool.map(lambda name: _register(server, name), names))
        list(pool.map(lambda pair: befriend(server, *pair), zip(accounts[0::2], accounts[1::2], strict=True)))
    return accounts


def insert_pairs(database: Path, users: int) -> list[Account]:
    """Writes `users` users with a device token and one friend each into the database of a stopped server."""
    accounts = _with_tokens(users)
    connection = sqlite3.connect(database)
    with connection:
        for statement, rows in _statements(accounts, "?"):
            connection.executemany(statement, rows)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return accounts


def insert_pairs_mysql(connection: Any, users: int) -> list[Account]:
    """The same over a pymysql connection to Aldis' database."""
    accounts = _with_tokens(users)
    with connection.cursor() as cursor:
        for statement, rows in _statements(accounts, "%s"):
            cursor.executemany(statement, rows)
    connection.commit()
    return accounts


def _with_tokens(users: int) -> list[Account]:
    return [
        {"user": _name(number), "device": DEVICE, "token": TOKEN_PREFIX + secrets.token_urlsafe(32)}
        for number in range(users)
    ]


def _statements(accounts: list[Account], mark: str) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """What to execute with which rows; `mark` stands for a value in the driver's dialect."""
    pairs = zip(accounts[0::2], accounts[1::2], strict=True)
    # not a hash of anything: nobody logs in with a password here
    yield (
        f"INSERT INTO im_user (user_id, name, password_hash, state, created) VALUES ({mark}, '', '!', 1, {mark})",
        [(account["user"], CREATED) for account in accounts],
    )
    yield (
        "INSERT INTO im_relation (user_id1, user_id2, state, blocked, key_version, created, updated)"
        f" VALUES ({', '.join([mark] * 3)}, 0, 0, {mark}, {mark})",
        [(*sorted((one["user"], two["user"])), FRIENDS, CREATED, CREATED) for one, two in pairs],
    )
    yield (
        "INSERT INTO im_token (token_id, hash, user_id, device_id, name, created)"
        f" VALUES ({', '.join([mark] * 4)}, 'bench', {mark})",
        [
            (str(uuid.uuid4()), hashlib.sha256(a["token"].encode()).digest(), a["user"], a["device"], CREATED)
            for a in accounts
        ],
    )


def _name(number: int) -> str:
    return f"user{number:05d}"


def _register(server: Server, user: str) -> Account:
    _call(server, "POST", "/v1/users", {"user_id": user, "password": PASSWORD, "name": user}, expect=201)
    login = {"user_id": user, "password": PASSWORD, "device_id": DEVICE}
    return {"user": user, "device": DEVICE, "token": _call(server, "POST", "/v1/login", login)["access_token"]}


def befriend(server: Server, one: Account, two: Account) -> None:
    """Over REST; both have logged in there."""
    _call(server, "POST", "/v1/friend-requests", {"to": two["user"]}, token=one["token"])
    _call(server, "POST", f"/v1/friend-requests/{one['user']}/accept", {}, token=two["token"])


def _call(
    server: Server, method: str, path: str, body: dict[str, Any], *, token: str | None = None, expect: int | None = None
) -> dict[str, Any]:
    """One REST call; waits and asks again where the server says that it is asked too often."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    deadline = time.monotonic() + 120
    while True:
        connection = http.client.HTTPConnection(HOST, server.http, timeout=30)
        try:
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            status, answer = response.status, response.read()
        finally:
            connection.close()
        if status not in (429, 503) or time.monotonic() > deadline:
            break
        time.sleep(min(5.0, float(response.headers.get("Retry-After") or 0.2)))
    if status >= 300 or (expect is not None and status != expect):
        raise PopulationError(f"{method} {path}: {status} {answer[:300]!r}")
    document = json.loads(answer) if answer else {}
    return document if isinstance(document, dict) else {}
