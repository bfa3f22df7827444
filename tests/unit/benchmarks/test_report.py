"""Tables and JSON of the benchmarks: peers by name, processes one by one, targets kept and missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import plot, report
from benchmarks.results import Outcome, Row, Target, each, ratios


def run(cost: float, **parts: float) -> dict[str, Any]:
    shares = {"server_utilisation": 0.5, "generator_utilisation": 0.1, "other_utilisation": 0.02}
    return {"cpu_us": cost, "rate": 1e6 / cost, "generator_cpu_us": 4.0, "parts_us": parts or {"aldis": cost}, **shares}


def cluster() -> Outcome:
    ours = [run(60.0, **{"node 1": 30.0, "mariadbd": 30.0}), run(40.0, **{"node 1": 25.0, "mariadbd": 15.0})]
    theirs = [run(50.0, **{"node 1": 45.0, "redis": 5.0}), run(80.0, **{"node 1": 75.0, "redis": 5.0})]
    cost, rival = each(ours, "cpu_us"), each(theirs, "cpu_us")
    rows = [
        Row("CPU per message", "µs", 50.0, 65.0, ratios(cost, rival), target=Target(1)),
        Row("absolute", "µs", 50.0, None, cost, "µs", Target(45)),
        Row("sent after", "ms", 4.0, 0.4),
        Row("two nodes beside one", "µs", spread=[1.25, 1.75]),
    ]
    return Outcome("g", "Across nodes", "aedes + Redis", rows, {"aldis": ours, "aedes": theirs})


def single() -> Outcome:
    return Outcome("e", "Drain", rows=[Row("rate", "1/s", 90_000.0)], loads={"aldis drain": [run(5.0)]})


def test_ratios_are_taken_pair_by_pair_and_targets_judged() -> None:
    assert [row.figure for row in cluster().rows] == [0.85, 50.0, None, 1.5]
    assert [row.met for row in cluster().rows] == [True, False, None, None]


def test_the_table_names_the_peer_of_each_scenario() -> None:
    lines = report.results_table([single(), cluster()])
    assert [line[4] for line in lines if line[0]] == ["", "aedes + Redis"]
    text = report.as_text(lines)
    assert "(g)  Across nodes  (peer: aedes + Redis)" in text
    assert "0.85 × (0.50 to 1.20)" in text and "≤ 1.00 ×" in text and "missed" in text


def test_in_markdown_titles_are_bold_and_figures_are_not() -> None:
    page = report.as_markdown(report.results_table([cluster()]))
    assert "| **(g)** | **Across nodes** |  |  | **aedes + Redis** |  |  |  |" in page
    assert "|  | CPU per message | µs | 50.0 | 65.0 | 0.85 × (0.50 to 1.20) | ≤ 1.00 × | met |" in page


def test_a_row_may_be_nothing_but_a_ratio() -> None:
    assert "|  | two nodes beside one | µs |  |  | 1.50 × (1.25 to 1.75) |  |  |" in report.as_markdown(
        report.results_table([cluster()])
    )


def test_each_process_has_a_column_where_several_share_the_work() -> None:
    assert report.parts_table([single(), cluster()]) == [
        ["", "load", "all", "node 1", "mariadbd", "redis"],
        ["(g)", "aldis", "50.0", "27.5", "22.5", ""],
        ["(g)", "aedes", "65.0", "60.0", "", "5.00"],
    ]


def test_the_json_holds_peers_figures_and_verdicts(tmp_path: Path) -> None:
    report.write_json(tmp_path / "results.json", {"machine": {}}, [cluster()])
    found = json.loads((tmp_path / "results.json").read_text("utf-8"))["scenarios"]["g"]
    assert found["peer"] == "aedes + Redis" and found["valid"]
    assert [(row["peer"], row["figure"], row["met"]) for row in found["rows"]] == [
        (65.0, 0.85, True),
        (None, 50.0, False),
        (0.4, None, None),
        (None, 1.5, None),
    ]


def test_everything_can_be_drawn(tmp_path: Path) -> None:
    plot.draw(tmp_path / "results.png", [single(), cluster()], "a caption")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_an_invalid_scenario_says_so_and_is_not_drawn(tmp_path: Path) -> None:
    broken = Outcome("g", "Across nodes", "aedes + Redis", problems=["a message was lost"])
    assert "INVALID" in report.as_text(report.results_table([broken]))
    assert report.problem_lines([broken]) == ["INVALID (g): a message was lost"]
    plot.draw(tmp_path / "results.png", [broken], "a caption")
    assert not (tmp_path / "results.png").exists()
