"""The invariants, by name, and the report on a history that breaks them. Pure functions over a history.

Run alone it judges a saved history: `python -m tests.faults.checker FILE…`
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.faults import rules_messages, rules_receipts, rules_server
from tests.faults.history import Event, load
from tests.faults.view import View

Rule = Callable[[View], list[str]]

INVARIANTS: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        rules_messages.comes_to_rest,
        rules_messages.everything_arrives,
        rules_messages.copies_arrive,
        rules_messages.everywhere_or_nowhere,
        rules_messages.no_holes,
        rules_messages.once,
        rules_messages.one_item_per_number,
        rules_messages.in_order,
        rules_messages.nobody_else,
        rules_messages.unaltered,
        rules_messages.nothing_after_forbidden,
        rules_messages.nothing_after_a_kick,
        rules_messages.one_owner,
        rules_messages.refusals_are_just,
        rules_receipts.one_result_per_id,
        rules_receipts.answered_before_acknowledged,
        rules_receipts.delivered_is_true,
        rules_receipts.read_is_true,
        rules_receipts.sent_comes_first,
        rules_receipts.receipts_never_fall,
        rules_receipts.receipts_arrive,
        rules_server.epochs_never_fall,
        rules_server.store_and_wire_agree,
        rules_server.nothing_is_left_behind,
    )
}


def check(events: Sequence[Event]) -> dict[str, list[str]]:
    """The violations by invariant; only those that are broken."""
    view = View(events)
    return {name: problems for name, rule in INVARIANTS.items() if (problems := rule(view))}


def report(broken: dict[str, list[str]], first: int = 3) -> str:
    lines = []
    for name, problems in broken.items():
        lines.append(f"{name}: {len(problems)} violation{'s' if len(problems) > 1 else ''}")
        lines += [f"    {problem}" for problem in problems[:first]]
    return "\n".join(lines)


if __name__ == "__main__":
    found = check(load(*map(Path, sys.argv[1:])))
    print(report(found, 20) or "every invariant holds")
    sys.exit(bool(found))
