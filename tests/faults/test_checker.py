"""The checker is believed only after it went red: on planted faults, one by one, and on a real server behind a liar."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.faults.checker import INVARIANTS, check, report
from tests.faults.history import Event, Log, What, load, save
from tests.faults.ideal import Ideal
from tests.faults.planted import PLANTED
from tests.faults.rules_messages import in_order
from tests.faults.view import View


def copy(events: list[Event]) -> list[Event]:
    return msgspec.json.decode(msgspec.json.encode(events), type=list[Event])


@pytest.fixture(scope="module")
def ideal() -> list[Event]:
    return Ideal().events


def test_a_good_history_breaks_nothing(ideal: list[Event]) -> None:
    assert check(ideal) == {}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_turns_the_right_invariant_red(ideal: list[Event], name: str) -> None:
    change, red = PLANTED[name]
    events = sorted(change(copy(ideal)), key=lambda event: event.t)
    found = check(events)
    assert set(found) == red, report(found)
    assert all(problem for problems in found.values() for problem in problems)


@pytest.mark.parametrize("first_copy", [True, False])
def test_a_second_copy_is_late_only_if_it_is_the_first_that_there_is(first_copy: bool) -> None:
    """Two messages without id, stored twice. One device, at QoS 0, has missed the first copy of the first message."""
    phone, watch = {"user": "bob", "device": "phone"}, {"user": "bob", "device": "watch"}
    events = [Event(0, What.DEVICE, **phone, qos=1), Event(0, What.DEVICE, **watch)]
    events += [
        Event(1, What.PUBLISHING, user="ada", device="phone", token=f"ada/phone>bob#{one}", to="bob", qos=1)
        for one in (1, 2)
    ]
    came = [(1, 1), (2, 2), (1, 3), (2, 4)]
    for device, items in ((phone, came if first_copy else came[1:]), (watch, came[1:])):
        events += [
            Event(2, What.GOT, **device, token=f"ada/phone>bob#{one}", n=n, mid=n * 2, kind="chat") for one, n in items
        ]
    assert bool(in_order(View(events))) is not first_copy


def test_every_invariant_has_been_red() -> None:
    assert set().union(*(red for _, red in PLANTED.values())) == set(INVARIANTS)


def test_a_history_without_an_end_is_not_believed(ideal: list[Event]) -> None:
    assert set(check(ideal[:-2])) == {"comes_to_rest"}


def test_a_history_survives_a_file(ideal: list[Event], tmp_path: Path) -> None:
    save(tmp_path / "one", ideal)
    assert load(tmp_path / "one") == ideal


def test_files_are_put_in_the_order_of_their_times(ideal: list[Event], tmp_path: Path) -> None:
    save(tmp_path / "one", ideal[::2])
    save(tmp_path / "two", ideal[1::2])
    assert load(tmp_path / "one", tmp_path / "two") == ideal


def test_what_was_noted_before_a_kill_is_there_and_half_a_line_is_not(tmp_path: Path) -> None:
    path = tmp_path / "log"
    program = (
        "import sys, pathlib; from tests.faults.history import Log, What\n"
        "log = Log(pathlib.Path(sys.argv[1])); n = 0\n"
        "while True: n += 1; log.note(What.GOT, n=n); print(n, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(500)]
        process.kill()
    with path.open("ab") as file:
        file.write(b'{"t":1.0,"what":"g')
    events = load(path)
    assert [event.n for event in events][:500] == told
    assert [event.t for event in events] == sorted(event.t for event in events)


def test_the_clock_is_the_same_for_all_processes(tmp_path: Path) -> None:
    program = "import time; print(time.monotonic())"
    before = time.monotonic()
    told = float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)
    assert before < told < time.monotonic()


def test_a_log_goes_on_in_another_file(tmp_path: Path) -> None:
    log = Log(tmp_path / "one")
    log.note(What.GOT, n=1)
    log.turn(tmp_path / "two")
    log.note(What.GOT, n=2)
    log.close()
    assert [[event.n for event in load(tmp_path / name)] for name in ("one", "two")] == [[1], [2]]
