"""Load for scenario (d): connections that subscribe and then say nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks import machine
from benchmarks.wire import Client, open_all


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Memory of the server before and with the connections, in bytes per connection.

    A few connections come and go first, so that what the first connection loads is not counted to the others.
    """
    host, ports = spec["host"], spec["receiver_ports"]
    (pid,) = spec["processes"].values()
    people, count = spec["people"], spec["connections"]
    first = [_client(i, people) for i in range(min(20, count))]
    await open_all(first, host, ports)
    for client in first:
        client.close()
    await asyncio.sleep(spec["settle"])
    before = machine.memory_bytes(pid)
    clients = [_client(i, people) for i in range(count)]
    await open_all(clients, host, ports)
    await asyncio.sleep(spec["settle"])
    after = machine.memory_bytes(pid)
    problems = [client.failure for client in clients if client.failure]
    for client in clients:
        client.close()
    per_connection = {name: (after[name] - before[name]) / count for name in before}
    return {"problems": problems, "connections": count, "before": before, "after": after, **per_connection}


def _client(number: int, people: list[dict[str, str]]) -> Client:
    if not people:
        return Client(f"idle-{number}", topic_filter=f"bench/idle/{number}")
    person = people[number]
    user = person["user"]
    return Client(person["device"], topic_filter=f"inbox/{user}/#", user=user, password=person["token"])
