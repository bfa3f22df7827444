"""One of several nodes on one database: its name, Redis between them, and how long it waits for whom.

Redis carries hints only: what is set here decides how soon something happens across nodes, never whether.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from aldis.config.entrance import file_problem, key_problem
from aldis.config.journal import Journal, journal_problems
from aldis.config.section import Positive, Seconds, Section

_ENVELOPE = 4_096
"""Bytes of a frame beside its one largest message."""


def _redis_url(url: SecretStr) -> SecretStr:
    """The texts must not name the value: it is a secret."""
    try:
        parts = urlsplit(url.get_secret_value())
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address; a password in it must be percent-encoded") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must begin with redis://, rediss:// (TLS) or unix://")
    if parts.fragment or set(parse_qs(parts.query, keep_blank_values=True)) - {"db"}:
        raise ValueError("may have no option but db; what else there is to say has a setting of its own")
    if parts.scheme == "unix":
        if not parts.path.startswith("/") or parts.hostname:
            raise ValueError("must have the form unix:///PATH/TO/SOCKET")
    elif not parts.hostname or not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError("must have the form redis://HOST:PORT/NUMBER, the number being that of the database")
    return url


def host_name() -> str:
    """This machine's name, made a node's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64] or "node"


class RedisTls(Section):
    ca_file: Path | None = None
    """PEM file: the authority that signed the certificate of Redis. Without it those the system trusts."""
    certfile: Path | None = None
    """PEM file: our own certificate, where Redis asks for one."""
    keyfile: Path | None = None
    """PEM file: its private key. Refused if everybody on the machine may read it."""


class Cluster(Section):
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(default_factory=host_name)
    """Name of this process among the others, the host's by default. Two processes may not share one: the younger takes
    it from the older, which then serves nobody any more."""
    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)]
    """`redis://USER:PASSWORD@HOST:PORT/NUMBER`, `rediss://…` with TLS, `unix:///PATH`. Never shown. Better without the
    password: see `redis_password_file`."""
    redis_password_file: Path | None = None
    """File with the password for Redis in its first line, as container secrets are given; instead of one in
    `redis_url`. Refused if everybody on the machine may read it."""
    redis_tls: RedisTls | None = None
    """What TLS to Redis needs beyond `rediss://`, whose certificate must be good for the host in it."""
    connect_timeout: Seconds = 2.0
    """Seconds to connect to Redis and log in, before it is called unreachable. Nothing waits for it meanwhile."""
    answer_timeout: Seconds = 2.0
    """Seconds to wait for an answer of Redis before the connection is given up. It answers within a millisecond."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "aldis"
    """What the names of all keys and channels in Redis begin with: clusters with different ones may share a Redis."""
    lease: Seconds = 10.0
    """Seconds for which a node counts as living after it last said so in Redis. Then its devices count as gone, and
    their friends are told. It is renewed three times in that time."""
    heartbeat: Seconds = 0.5
    """Seconds between two heartbeats of this node to all, itself included."""
    silence: Seconds = 2.0
    """Seconds without a heartbeat of our own coming back after which the link counts as down: positions are read again
    every `sweep_unconnected` seconds. Four heartbeats: one that is late is no reason."""
    peer_timeout: Seconds = 5.0
    """Seconds without a heartbeat of another node after which it counts as gone: nothing is sent there any more."""
    sweep: Seconds = 15.0
    """Seconds between two looks at the positions of all inboxes attached here while the link is up: what comes by Redis
    and is lost without a trace comes that late."""
    sweep_unconnected: Seconds = 1.0
    """Seconds between two of these looks while the link is down: so late does a message from another node come then."""
    ownership: Seconds = 3.0
    """Seconds for which a node trusts that its devices are still its own. When it has heard nothing for longer, it
    delivers nothing from inboxes until it has asked the store: a frozen node that wakes does not speak out of turn."""
    status_timeout: Seconds = 1.0
    """Seconds, at most, that a CONNECT waits for the user status; then the device is let in without it."""
    hand_over: Seconds = 1.0
    """Seconds, at most, that a CONNECT waits for the persistent session from the node that had it; then it is new.
    Inboxes lose nothing by that: they are in the store."""
    settle: Seconds = 2.0
    """Seconds, at most, that a REST call which takes a right away waits until the other nodes have heard of it."""
    max_frame_size: Positive = 1_048_576
    """Bytes of one frame between nodes. What does not fit goes into the next one."""
    max_waiting_bytes: Positive = 16_777_216
    """Bytes that wait to be sent to other nodes; beyond them parcels are dropped, and their receivers read the store. A
    tenth of a second of a fast network."""
    max_frame_age: Seconds = 30.0
    """Seconds after which a frame is not taken any more, by its sender's clock: old ones cannot be played again. The
    nodes' clocks may differ by this."""
    max_known_users: Positive = 200_000
    """Users whose nodes this node remembers, about 200 bytes each; those longest unasked are forgotten first."""
    journal: Journal = Journal()
    """Where `store.accept` is `journal`: messages that Redis has and the database has not."""


def cluster_problems(cluster: Cluster, *, backend: str, max_packet_size: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong although every single value is right: the key below `cluster`, and why. Looks at the files."""
    if backend != "mysql":
        yield (), f"several nodes need one database: store.backend must be mysql, not {backend}"
    less = (("heartbeat", "silence"), ("silence", "lease"), ("ownership", "lease"), ("silence", "max_frame_age"))
    for smaller, larger in less:
        if getattr(cluster, smaller) >= getattr(cluster, larger):
            yield (smaller,), f"must be less than cluster.{larger} ({getattr(cluster, larger):g})"
    at_least = (("ownership", "silence"), ("peer_timeout", "silence"), ("sweep", "sweep_unconnected"))
    for larger, smaller in at_least:
        if getattr(cluster, larger) < getattr(cluster, smaller):
            yield (larger,), f"must not be less than cluster.{smaller} ({getattr(cluster, smaller):g})"
    if cluster.max_frame_size < max_packet_size + _ENVELOPE:
        yield ("max_frame_size",), f"must not be less than limits.max_packet_size and {_ENVELOPE} bytes"
    if cluster.max_waiting_bytes < cluster.max_frame_size:
        yield ("max_waiting_bytes",), "must not be less than cluster.max_frame_size"
    for below, text in journal_problems(
        cluster.journal, max_packet_size=max_packet_size, answer_timeout=cluster.answer_timeout
    ):
        yield ("journal", *below), text
    yield from _redis_problems(cluster)


def _redis_problems(cluster: Cluster) -> Iterator[tuple[tuple[str, ...], str]]:
    address = urlsplit(cluster.redis_url.get_secret_value())
    if cluster.redis_password_file is not None and address.password is not None:
        yield ("redis_password_file",), "there is a password in cluster.redis_url already"
    if cluster.redis_tls is not None and address.scheme != "rediss":
        yield ("redis_tls",), "has no meaning unless cluster.redis_url begins with rediss://"
    tls = cluster.redis_tls or RedisTls()
    if (tls.certfile is None) != (tls.keyfile is None):
        yield ("redis_tls",), "certfile and keyfile go together"
    files = {("redis_tls", "ca_file"): tls.ca_file, ("redis_tls", "certfile"): tls.certfile}
    secret: dict[tuple[str, ...], Path | None] = {("redis_password_file",): cluster.redis_password_file}
    secret["redis_tls", "keyfile"] = tls.keyfile
    for key, path in (*secret.items(), *files.items()):
        problem = None if path is None else file_problem(path)
        if problem is None and path is not None and key in secret:
            problem = key_problem(path)
        if problem is not None:
            yield key, problem
