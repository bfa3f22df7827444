"""The table of the standard's statements is complete and true."""

import re

from tests.conformance.statements import ROOT, SERVER, STATEMENTS, held_by

PAGE = ROOT / "docs" / "conformance.md"


def test_every_statement_that_shows_has_a_test() -> None:
    tests = held_by()
    missing = [statement.id for statement in STATEMENTS if statement.who == SERVER and statement.id not in tests]
    assert missing == []


def test_no_test_names_a_statement_that_does_not_exist() -> None:
    assert held_by().keys() <= {statement.id for statement in STATEMENTS}


def test_the_page_has_every_statement_and_names_tests_that_exist() -> None:
    """If this fails: make conformance. A page that names fewer tests than there are is still true."""
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| MQTT-(\S+) \|", page, re.MULTILINE) == [statement.id for statement in STATEMENTS]
    existing = {where.rpartition("::")[2] for tests in held_by().values() for where in tests}
    assert set(re.findall(r"`(test_\w+)`", page)) <= existing
