"""Load for the chat scenarios: pairs of friends, one writes to the other, both listen to their inboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from benchmarks.meter import Meter, latencies, percentile, until
from benchmarks.pacing import pace
from benchmarks.people import Receiver, Sender
from benchmarks.wire import open_all


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Runs the phases one after the other on the same connections; each ends when every receipt is there."""
    accounts = spec["people"]
    pairs = list(zip(accounts[0::2], accounts[1::2], strict=True))[: spec["pairs"]]
    receivers = [Receiver(receiver, sender["user"]) for sender, receiver in pairs]
    senders = [Sender(sender, receiver["user"], spec["window"]) for sender, receiver in pairs]
    clients = [*receivers, *senders]
    for sender, receiver in zip(senders, receivers, strict=True):
        receiver.time(sender)
    await open_all(receivers, spec["host"], spec["receiver_ports"])
    await open_all(senders, spec["host"], spec["sender_ports"])
    await asyncio.sleep(spec["settle"])
    meter = Meter(spec["processes"], lambda: sum(receiver.received for receiver in receivers))
    phases: dict[str, Any] = {}
    problems: list[str] = []
    for phase in spec["phases"]:
        if problems:
            break
        for sender in senders:
            sender.sequenced = phase.get("sequenced", False)
        if "share" in phase:
            result = await _paced(meter, senders, receivers, phase, phase["share"] * phases[phase["of"]]["rate"])
        else:
            result = await _closed_loop(meter, senders, receivers, phase)
        phases[phase["name"]] = result
        problems = await _verify(senders, receivers)
    for client in clients:
        client.close()
    return {"phases": phases, "problems": problems, "repeats": sum(receiver.repeats for receiver in receivers)}


async def _closed_loop(
    meter: Meter, senders: Sequence[Sender], receivers: Sequence[Receiver], phase: dict[str, Any]
) -> dict[str, Any]:
    """Every sender keeps its window full: as many messages as the server takes."""
    for sender in senders:
        sender.start()
    result = await _measured(meter, senders, receivers, phase)
    for sender in senders:
        sender.running = False
    return result


async def _paced(
    meter: Meter, senders: Sequence[Sender], receivers: Sequence[Receiver], phase: dict[str, Any], rate: float
) -> dict[str, Any]:
    """Messages at fixed times whatever the server does, so that a slow answer does not slow the questions."""
    lateness: list[float] = []
    pacing = asyncio.create_task(pace(senders, rate, lateness))
    result = await _measured(meter, senders, receivers, phase)
    pacing.cancel()
    await asyncio.gather(pacing, return_exceptions=True)
    return result | {"asked_rate": rate, "generator_late_p99_ms": percentile(lateness, 0.99) * 1000}


async def _measured(
    meter: Meter, senders: Sequence[Sender], receivers: Sequence[Receiver], phase: dict[str, Any]
) -> dict[str, Any]:
    """A stretch, with the times to the receipt `sent` and to the arrival at the receiver."""
    sent: list[float] = []
    arrived: list[float] = []
    await asyncio.sleep(phase["warmup"])
    _note_times(senders, sent)
    _note_times(receivers, arrived)
    result = await meter.stretch(0, phase["seconds"])
    _note_times([*senders, *receivers], None)
    return result | latencies("sent", sent) | latencies("arrived", arrived)


def _note_times(people: Sequence[Sender | Receiver], where: list[float] | None) -> None:
    for person in people:
        person.latencies = where


async def _verify(senders: Sequence[Sender], receivers: Sequence[Receiver]) -> list[str]:
    """Waits for the last message, acknowledgement and receipt, and says what is missing."""

    def complete(sender: Sender, receiver: Receiver) -> bool:
        counted = sender.sent == sender.done == sender.confirmed == receiver.received
        return counted and sender.delivered == receiver.mid

    pairs = list(zip(senders, receivers, strict=True))
    clients = [*senders, *receivers]
    await until(lambda: all(complete(*pair) for pair in pairs) or any(client.failure for client in clients), 20)
    problems = [client.failure for client in clients if client.failure]
    for sender, receiver in pairs:
        if not complete(sender, receiver):
            problems.append(
                f"{sender.user}: {sender.sent} sent, {sender.done} acknowledged, {sender.confirmed} receipts, "
                f"{receiver.received} received, delivered up to {sender.delivered} of {receiver.mid}"
            )
    return problems
