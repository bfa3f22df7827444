"""What the health and metrics routes ask of the server around them; handed in by the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from aldis.broker.ports import StoreUnavailable


async def _nothing() -> None:
    """There is no store to look at."""


async def _no_metrics(_peer: str, _forwarded: bool) -> bytes | None:
    return None


class NotReady(StoreUnavailable):
    """The server must not be sent anybody now; the text says why."""


class NotForYou(Exception):
    """The metrics are not for whoever asks from there."""


@dataclass(frozen=True, slots=True)
class Operations:
    """`not_ready` gives the reasons, in words, why nobody should be sent here; none means ready. `look` really reads
    from what the server needs and raises `StoreUnavailable`. `metrics(peer, forwarded)` is the page in Prometheus' text
    format for a caller at this address, who came through a proxy or not; None where they are switched off. It raises
    `NotForYou`."""

    not_ready: Callable[[], Collection[str]] = tuple
    look: Callable[[], Awaitable[None]] = _nothing
    metrics: Callable[[str, bool], Awaitable[bytes | None]] = _no_metrics
