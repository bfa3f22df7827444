"""Load for scenarios (e) and (h): messages pile up for devices that are away, then all of them come back at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.meter import Meter, difference, until
from benchmarks.people import Receiver, Sender
from benchmarks.wire import Client, WireError, open_all

Pair = tuple[dict[str, str], dict[str, str]]
"""The accounts of a sender and of its receiver."""


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Stores `each` messages for every receiver while none is connected, then measures the drain.

    The rate counts from the first connect until the server has handled the last PUBACK: each device sends a PINGREQ
    behind it and waits for the answer. CPU includes half a second more, in which cursors and receipts are committed.
    """
    accounts = spec["people"]
    pairs: list[Pair] = list(zip(accounts[0::2], accounts[1::2], strict=True))[: spec["pairs"]]
    await _make_known(pairs, spec)
    stored_rate, problems = await _store(pairs, spec)
    if problems:
        return {"problems": problems}
    receivers = [Receiver(receiver, sender["user"], expected=spec["each"]) for sender, receiver in pairs]
    meter = Meter(spec["processes"], lambda: sum(receiver.received for receiver in receivers))
    await asyncio.sleep(spec["settle"])
    first = meter.mark()
    await open_all(receivers, spec["host"], spec["receiver_ports"])
    drained = asyncio.gather(*(receiver.pong for receiver in receivers))
    try:
        await asyncio.wait_for(drained, 60)
    except TimeoutError:
        problems.append("not drained after 60 s")
    except WireError:
        pass  # the client that failed is named below
    result = difference(first, meter.mark())
    await asyncio.sleep(0.5)
    settled = difference(first, meter.mark())
    result |= {name: settled[name] for name in ("cpu_us", "parts_us")}
    problems += _missing(receivers, spec["each"])
    newest = [receiver.mid for receiver in receivers]
    await _close(receivers)
    problems += await _nothing_left(pairs, newest, spec)
    return result | {"stored_rate": stored_rate, "problems": problems}


async def _make_known(pairs: Sequence[Pair], spec: dict[str, Any]) -> None:
    """Each device connects once: what comes later is a backlog of a known device."""
    clients = [Receiver(receiver, sender["user"]) for sender, receiver in pairs]
    await open_all(clients, spec["host"], spec["receiver_ports"])
    await asyncio.sleep(spec["settle"])
    await _close(clients)


async def _store(pairs: Sequence[Pair], spec: dict[str, Any]) -> tuple[float, list[str]]:
    senders = [Sender(sender, receiver["user"], 100, listening=False) for sender, receiver in pairs]
    await open_all(senders, spec["host"], spec["sender_ports"])
    start = time.perf_counter()
    for sender in senders:
        sender.limit = spec["each"]
        sender.start()
    await until(lambda: all(sender.done == spec["each"] or sender.failure for sender in senders), 60)
    rate = sum(sender.done for sender in senders) / (time.perf_counter() - start)
    problems = [sender.failure for sender in senders if sender.failure]
    problems += [f"{s.user}: {s.done} of {spec['each']} acknowledged" for s in senders if s.done != spec["each"]]
    await _close(senders)
    return rate, problems


def _missing(receivers: Sequence[Receiver], each: int) -> list[str]:
    problems = [receiver.failure for receiver in receivers if receiver.failure]
    return problems + [f"{r.user}: {r.received} of {each} drained" for r in receivers if r.received != each]


async def _nothing_left(pairs: Sequence[Pair], newest: Sequence[int], spec: dict[str, Any]) -> list[str]:
    """The same devices come back and find nothing; their senders come back and find everything delivered."""
    receivers = [Receiver(receiver, sender["user"], already=spec["each"]) for sender, receiver in pairs]
    senders = [Sender(sender, receiver["user"], 1) for sender, receiver in pairs]
    await open_all(receivers, spec["host"], spec["receiver_ports"])
    await open_all(senders, spec["host"], spec["sender_ports"])
    await until(lambda: all(s.delivered == mid for s, mid in zip(senders, newest, strict=True)), 5)
    await asyncio.sleep(spec["settle"])
    problems = [client.failure for client in [*receivers, *senders] if client.failure]
    problems += [f"{r.user}: drained messages came again" for r in receivers if r.mid or r.repeats]
    for sender, mid in zip(senders, newest, strict=True):
        if sender.delivered != mid:
            problems.append(f"{sender.user}: delivered up to {sender.delivered} of {mid}")
    await _close([*receivers, *senders])
    return problems


async def _close(clients: Sequence[Client]) -> None:
    for client in clients:
        client.close()
    await asyncio.sleep(0.3)  # the server sees them go before anyone counts on their absence
