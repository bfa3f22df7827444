"""The scenarios (a) to (f), one node: which server, which load, how often, and what is compared with what."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import cluster_scenarios
from benchmarks.bench import Bench, InvalidRun, Run
from benchmarks.load import LoadError
from benchmarks.population import PopulationError
from benchmarks.results import Outcome, Row, Target, each, median, ratios
from benchmarks.servers import ServerError

KIB = 1024
PACED_RATE = 10_000
"""Messages per second of the paced stretch of (a): less than any of the servers can take, so that none batches."""


def relay_a(bench: Bench) -> Outcome:
    outcome = Outcome("a", "Relay, QoS 1, 50 pairs, window 10, 1,000 idle subscribers", "mosquitto")
    shape = {"pairs": 50, "window": 10, "idle": 1_000, "rate": PACED_RATE}
    _compare_relay(bench, outcome, Target(1.0), shape)
    calm = {name: [run["paced"] for run in runs] for name, runs in outcome.loads.items()}
    cost, rival, other = (each(runs, "cpu_us") for runs in calm.values())
    paced = f"server CPU per message, {PACED_RATE:,} paced messages/s"
    outcome.rows += [
        Row(paced, "µs", median(cost), median(rival), ratios(cost, rival)),
        Row("the same, mosquitto with set_tcp_nodelay", "µs", median(cost), median(other), ratios(cost, other)),
    ]
    outcome.loads |= {f"{name}, paced": runs for name, runs in calm.items()}
    return outcome


def relay_b(bench: Bench) -> Outcome:
    outcome = Outcome("b", "Relay, QoS 1, 400 pairs, window 1", "mosquitto")
    _compare_relay(bench, outcome, Target(1.3), {"pairs": 400, "window": 1, "idle": 0})
    return outcome


def _compare_relay(bench: Bench, outcome: Outcome, target: Target, shape: dict[str, int]) -> None:
    theirs, ours, eager = [], [], []
    for _ in range(bench.rounds):
        with bench.mosquitto() as server:
            theirs.append(bench.relay(server, **shape))
        with bench.aldis("lab") as server:
            ours.append(bench.relay(server, **shape))
        with bench.mosquitto(nodelay=True) as server:
            eager.append(bench.relay(server, **shape))
    cost, rival, other = each(ours, "cpu_us"), each(theirs, "cpu_us"), each(eager, "cpu_us")
    outcome.rows = [
        Row("server CPU per message", "µs", median(cost), median(rival), ratios(cost, rival), target=target),
        Row("the same, mosquitto with set_tcp_nodelay", "µs", median(cost), median(other), ratios(cost, other)),
        Row("messages per second", "1/s", median(each(ours, "rate")), median(each(theirs, "rate"))),
    ]
    outcome.loads = {"aldis lab": ours, "mosquitto": theirs, "mosquitto, set_tcp_nodelay": eager}
    outcome.runs = [
        {"mosquitto": a, "aldis": b, "mosquitto_nodelay": c} for a, b, c in zip(theirs, ours, eager, strict=True)
    ]


def chat_c(bench: Bench) -> Outcome:
    outcome = Outcome("c", "Durable chat, 50 pairs of friends, window 10, SQLite with fsync, JWT", "mosquitto")
    data, people = bench.registered(100)
    phases = [
        bench.full_phase(),
        bench.full_phase("sequenced", sequenced=True),
        bench.full_phase("third", of="full", share=1 / 3),
    ]
    theirs, chats = [], []
    for _ in range(bench.rounds):
        with bench.mosquitto() as server:
            theirs.append(bench.relay(server, pairs=50, window=10, idle=1_000))
        with bench.aldis("embedded", data) as server:
            chats.append(bench.chat(server, people, phases))
    rival = each(theirs, "cpu_us")
    by_phase = {phase["name"]: [chat["phases"][phase["name"]] for chat in chats] for phase in phases}
    full, sequenced, third = by_phase["full"], by_phase["sequenced"], by_phase["third"]
    cost, ordered = each(full, "cpu_us"), each(sequenced, "cpu_us")
    outcome.rows = [
        Row(
            "server CPU per message, beside mosquitto's in (a)",
            "µs",
            median(cost),
            median(rival),
            ratios(cost, rival),
            target=Target(2.5),
        ),
        Row("the same when messages carry `seq`", "µs", median(ordered), median(rival), ratios(ordered, rival)),
        Row("messages per second", "1/s", median(each(full, "rate"))),
        Row("`sent` after, full load, p50", "ms", median(each(full, "sent_p50_ms"))),
        Row("`sent` after, full load, p99", "ms", median(each(full, "sent_p99_ms"))),
        Row(
            "`sent` after, a third of full load, p50",
            "ms",
            median(each(third, "sent_p50_ms")),
            spread=each(third, "sent_p50_ms"),
            figure_unit="ms",
            target=Target(10),
        ),
        Row("`sent` after, a third of full load, p99", "ms", median(each(third, "sent_p99_ms"))),
        Row("load generator late with a message, p99", "ms", median(each(third, "generator_late_p99_ms"))),
        Row("server CPU per message, a third of full load", "µs", median(each(third, "cpu_us"))),
    ]
    outcome.loads = {"mosquitto (a)": theirs, "aldis full": full, "aldis full, seq": sequenced, "aldis third": third}
    outcome.runs = [{"mosquitto_a": a, "aldis": b} for a, b in zip(theirs, chats, strict=True)]
    return outcome


def memory_d(bench: Bench) -> Outcome:
    count = int(2_000 * bench.scale)
    outcome = Outcome("d", f"Memory per idle connection, {count:,} subscribed connections", "mosquitto")
    data, people = bench.inserted(2_000)
    found: dict[str, list[Run]] = {"mosquitto": [], "lab": [], "embedded": []}
    for _ in range(min(2, bench.rounds)):
        with bench.mosquitto() as server:
            found["mosquitto"].append(bench.load("idle", server, people=[], connections=count, settle=1.0))
        with bench.aldis("lab") as server:
            found["lab"].append(bench.load("idle", server, people=[], connections=count, settle=1.0))
        with bench.aldis("embedded", data) as server:
            found["embedded"].append(bench.load("idle", server, people=people, connections=count, settle=1.0))
    rival = [value / KIB for value in each(found["mosquitto"], "rss")]
    for profile, target in (("lab", Target(12)), ("embedded", None)):
        rss = [value / KIB for value in each(found[profile], "rss")]
        outcome.rows.append(Row(f"resident, {profile}", "KiB", median(rss), median(rival), rss, "KiB", target))
        private = median(each(found[profile], "private")) / KIB
        theirs = median(each(found["mosquitto"], "private")) / KIB
        outcome.rows.append(Row(f"private, {profile}", "KiB", private, theirs))
    outcome.runs = [dict(zip(found, runs, strict=True)) for runs in zip(*found.values(), strict=True)]
    return outcome


def backlog_e(bench: Bench) -> Outcome:
    each_pair = int(1_000 * bench.scale)
    outcome = Outcome("e", f"Backlog drain, {50 * each_pair:,} messages for 50 devices")
    data, people = bench.inserted(100)
    drains = []
    for _ in range(bench.rounds):
        with bench.aldis("embedded", data) as server:
            drains.append(bench.load("backlog", server, people=people, pairs=50, each=each_pair, settle=0.5))
    rate = each(drains, "rate")
    target = Target(20_000, at_most=False)
    outcome.rows = [
        Row("messages per second, first connect to last PUBACK", "1/s", median(rate), None, rate, "1/s", target),
        Row("server CPU per message drained", "µs", median(each(drains, "cpu_us"))),
        Row("messages per second while storing them", "1/s", median(each(drains, "stored_rate"))),
    ]
    outcome.loads = {"aldis drain": drains}
    outcome.runs = [{"aldis": run} for run in drains]
    return outcome


def growth_f(bench: Bench) -> Outcome:
    outcome = Outcome("f", "Growth: (c) with 100 and with 10,000 registered users")
    sizes = {users: bench.inserted(users) for users in (100, 10_000)}
    found: dict[int, list[Run]] = {100: [], 10_000: []}
    for _ in range(bench.rounds):
        for users, (data, people) in sizes.items():
            with bench.aldis("embedded", data) as server:
                chat = bench.chat(server, people, [bench.full_phase()])
                found[users].append(chat["phases"]["full"])
    few, many = each(found[100], "cpu_us"), each(found[10_000], "cpu_us")
    outcome.rows = [
        Row("server CPU per message, 100 users", "µs", median(few)),
        Row(
            "server CPU per message, 10,000 users; ratio to 100",
            "µs",
            median(many),
            spread=ratios(many, few),
            target=Target(1.15),
        ),
    ]
    outcome.loads = {"aldis, 100 users": found[100], "aldis, 10,000 users": found[10_000]}
    outcome.runs = [{"users_100": a, "users_10000": b} for a, b in zip(found[100], found[10_000], strict=True)]
    return outcome


SCENARIOS: dict[str, Callable[[Bench], Outcome]] = {
    "a": relay_a,
    "b": relay_b,
    "c": chat_c,
    "d": memory_d,
    "e": backlog_e,
    "f": growth_f,
    "g": cluster_scenarios.cluster_g,
    "h": cluster_scenarios.backlog_h,
    "i": cluster_scenarios.nodes_i,
    "j": cluster_scenarios.mariadb_j,
    "k": cluster_scenarios.journal_k,
}

FAILURES = (InvalidRun, LoadError, PopulationError, ServerError)
"""What makes one scenario invalid and lets the others go on."""
