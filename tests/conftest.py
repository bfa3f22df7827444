"""What holds for every test."""

import hypothesis
import pytest

# A machine that is busy with something else is no reason to fail: time limits are pytest-timeout's.
hypothesis.settings.register_profile(
    "aldis", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
)
hypothesis.settings.load_profile("aldis")

EXAMPLES = 300
"""Seconds for a test with many examples. One that runs out of its time looks to hypothesis like one that has failed,
and it would search for minutes for the smallest example that is slow."""

LONG = ("faults", "integration", "web")
"""The folders of the files that take longest: first, so that no worker is left with one at the end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--alone", choices=("only", "without"), help="tests that need the machine for themselves")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen := config.getoption("--alone"):
        left_out = [item for item in items if (item.get_closest_marker("alone") is not None) != (chosen == "only")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        if hypothesis.is_hypothesis_test(getattr(item, "obj", None)) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(EXAMPLES))
    ranks = {config.rootpath / "tests" / folder: rank for rank, folder in enumerate(LONG)}
    items.sort(key=lambda item: min((ranks[one] for one in item.path.parents if one in ranks), default=len(LONG)))
