"""The scenarios (g) to (k): Aldis on MariaDB, alone and as a cluster, beside a cluster of aedes."""

from __future__ import annotations

from benchmarks.bench import Bench, Run
from benchmarks.results import Outcome, Row, Target, each, median, ratios

AEDES = "aedes + Redis"
NODES = (1, 2, 4)


def cluster_g(bench: Bench) -> Outcome:
    outcome = Outcome("g", "Durable chat across two nodes, 50 pairs, window 10, MariaDB with fsync, Redis", AEDES)
    files, people = bench.in_mariadb(100)
    theirs, chats = [], []
    for _ in range(bench.rounds):
        with bench.aedes_cluster(2) as server:
            theirs.append(bench.timed_relay(server))
        with bench.aldis_cluster(2, files) as server:
            chats.append(bench.chat(server, people, _phases(bench)))
    full, third = ([chat["phases"][name] for chat in chats] for name in ("full", "third"))
    calm = [run["paced"] for run in theirs]
    cost, rival = each(full, "cpu_us"), each(theirs, "cpu_us")
    slow, slow_rival = each(third, "cpu_us"), each(calm, "cpu_us")
    outcome.rows = [
        Row(
            "CPU of all processes per message", "µs", median(cost), median(rival), ratios(cost, rival), target=Target(1)
        ),
        Row("the same, absolute", "µs", median(cost), None, cost, "µs", Target(75)),
        Row("the same, a third of full load", "µs", median(slow), median(slow_rival), ratios(slow, slow_rival)),
        Row("messages per second", "1/s", median(each(full, "rate")), median(each(theirs, "rate"))),
        *_arrivals(full, theirs, third, calm),
        *_receipts(full, third),
    ]
    outcome.loads = {"aedes full": theirs, "aedes third": calm, "aldis full": full, "aldis third": third}
    outcome.runs = [{"aedes": a, "aldis": b} for a, b in zip(theirs, chats, strict=True)]
    return outcome


def backlog_h(bench: Bench) -> Outcome:
    each_pair = int(1_000 * bench.scale)
    outcome = Outcome("h", f"Backlog drain from MariaDB, {50 * each_pair:,} messages for 50 devices on two nodes")
    files, people = bench.in_mariadb(100)
    drains = []
    for _ in range(bench.rounds):
        with bench.aldis_cluster(2, files) as server:
            shape = {"people": people, "pairs": 50, "each": each_pair, "settle": 1.0}
            drains.append(bench.load("backlog", server, spread=True, **shape))
    rate = each(drains, "rate")
    outcome.rows = [
        Row("messages per second, first connect to last PUBACK", "1/s", median(rate), None, rate, "1/s"),
        Row("CPU of all processes per message drained", "µs", median(each(drains, "cpu_us"))),
        Row("messages per second while storing them", "1/s", median(each(drains, "stored_rate"))),
    ]
    outcome.loads = {"aldis drain": drains}
    outcome.runs = [{"aldis": run} for run in drains]
    return outcome


def nodes_i(bench: Bench) -> Outcome:
    outcome = Outcome("i", "Growth: durable chat with 1, 2 and 4 nodes, everybody's friend on the next node", AEDES)
    files, people = bench.in_mariadb(100)
    ours: dict[int, list[Run]] = {nodes: [] for nodes in NODES}
    theirs: dict[int, list[Run]] = {nodes: [] for nodes in NODES}
    for _ in range(bench.rounds):
        for nodes in NODES:
            with bench.aedes_cluster(nodes) as server:
                theirs[nodes].append(bench.timed_relay(server, spread=True))
            with bench.aldis_cluster(nodes, files) as server:
                chat = bench.chat(server, people, [bench.full_phase()], spread=True)
                ours[nodes].append(chat["phases"]["full"])
    for nodes in NODES:
        cost, rival = each(ours[nodes], "cpu_us"), each(theirs[nodes], "cpu_us")
        what = f"CPU of all processes per message, {nodes} node{'s' if nodes > 1 else ''}"
        outcome.rows.append(Row(what, "µs", median(cost), median(rival), ratios(cost, rival)))
    for nodes in NODES[1:]:
        cost, alone = each(ours[nodes], "cpu_us"), each(ours[1], "cpu_us")
        outcome.rows.append(Row(f"the same, {nodes} nodes beside one", "µs", spread=ratios(cost, alone)))
    for nodes in NODES:
        speed, their_speed = median(each(ours[nodes], "rate")), median(each(theirs[nodes], "rate"))
        outcome.rows.append(
            Row(f"messages per second, {nodes} node{'s' if nodes > 1 else ''}", "1/s", speed, their_speed)
        )
    for nodes in NODES:
        outcome.loads |= {f"aedes, {nodes}": theirs[nodes], f"aldis, {nodes}": ours[nodes]}
    outcome.runs = [
        {f"{who}_{nodes}": found[nodes][turn] for who, found in (("aedes", theirs), ("aldis", ours)) for nodes in NODES}
        for turn in range(bench.rounds)
    ]
    return outcome


def mariadb_j(bench: Bench) -> Outcome:
    outcome = Outcome("j", "Durable chat on one node, 50 pairs, window 10, MariaDB with fsync")
    files, people = bench.in_mariadb(100)
    chats = []
    for _ in range(bench.rounds):
        with bench.aldis_on_mariadb(files) as server:
            chats.append(bench.chat(server, people, _phases(bench)))
    full, third = ([chat["phases"][name] for chat in chats] for name in ("full", "third"))
    outcome.rows = [
        Row(
            "CPU of node and MariaDB per message",
            "µs",
            median(each(full, "cpu_us")),
            spread=each(full, "cpu_us"),
            figure_unit="µs",
        ),
        Row("the same, a third of full load", "µs", median(each(third, "cpu_us"))),
        Row("messages per second", "1/s", median(each(full, "rate"))),
        *_receipts(full, third),
    ]
    outcome.loads = {"aldis full": full, "aldis third": third}
    outcome.runs = [{"aldis": chat} for chat in chats]
    return outcome


def journal_k(bench: Bench) -> Outcome:
    outcome = Outcome(
        "k",
        "(g) with messages acknowledged for being in the journal, beside those acknowledged at their commit",
        "commit",
    )
    files, people = bench.in_mariadb(100)
    chats: dict[str, list[Run]] = {"commit": [], "journal": []}
    for _ in range(bench.rounds):
        for mode, runs in chats.items():
            with bench.aldis_cluster(2, files, journal=mode == "journal") as server:
                runs.append(bench.chat(server, people, _phases(bench))["phases"])
    for load, name in (("full load", "full"), ("a third of full load", "third")):
        ours, rival = ([run[name] for run in chats[mode]] for mode in ("journal", "commit"))
        cost, their_cost = each(ours, "cpu_us"), each(rival, "cpu_us")
        outcome.rows.append(
            Row(
                f"CPU of all processes per message, {load}",
                "µs",
                median(cost),
                median(their_cost),
                ratios(cost, their_cost),
            )
        )
        for what, key in (("`sent`", "sent"), ("arrived", "arrived")):
            for rank in ("p50", "p99"):
                values, others = each(ours, f"{key}_{rank}_ms"), each(rival, f"{key}_{rank}_ms")
                outcome.rows.append(Row(f"{what} after, {load}, {rank}", "ms", median(values), median(others)))
        if name == "full":
            outcome.rows.append(
                Row("messages per second", "1/s", median(each(ours, "rate")), median(each(rival, "rate")))
            )
    outcome.loads = {f"{mode}, {name}": [run[name] for run in runs] for mode, runs in chats.items() for name in runs[0]}
    outcome.runs = [dict(zip(chats, pair, strict=True)) for pair in zip(*chats.values(), strict=True)]
    return outcome


def _phases(bench: Bench) -> list[Run]:
    return [bench.full_phase(), bench.full_phase("third", of="full", share=1 / 3)]


def _arrivals(full: list[Run], their_full: list[Run], third: list[Run], their_third: list[Run]) -> list[Row]:
    """From the publish to the arrival at the receiver, on the other node."""
    rows = []
    for load, ours, theirs in (("full load", full, their_full), ("a third of full load", third, their_third)):
        for rank in ("p50", "p99"):
            values, rival = each(ours, f"arrived_{rank}_ms"), each(theirs, f"arrived_{rank}_ms")
            target = Target(10) if (ours is third and rank == "p50") else None
            spread = values if target else ()
            rows.append(
                Row(f"arrived after, {load}, {rank}", "ms", median(values), median(rival), spread, "ms", target)
            )
    return rows


def _receipts(full: list[Run], third: list[Run]) -> list[Row]:
    """From the publish to the receipt that says that it is committed."""
    rows = []
    for load, runs in (("full load", full), ("a third of full load", third)):
        for rank in ("p50", "p99"):
            rows.append(Row(f"`sent` after, {load}, {rank}", "ms", median(each(runs, f"sent_{rank}_ms"))))
    late = median(each(third, "generator_late_p99_ms"))
    return [*rows, Row("load generator late with a message, p99", "ms", late)]
