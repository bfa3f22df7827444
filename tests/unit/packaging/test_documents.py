"""The documents point only to what is there."""

import ast
import re
from pathlib import Path

import pytest

from aldis.broker.core.envelope import Reason

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def targets(document: Path) -> list[str]:
    """Relative links and pictures, without those in code."""
    text = re.sub(r"^(```|~~~).*?^\1$", "", document.read_text(), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'\b(?:src|srcset|href)="([^"\s]+)"', text)
    return [target for target in found if not re.match(r"[a-z]+:|#", target)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    missing = [to for to in targets(document) if not (document.parent / to.partition("#")[0]).exists()]
    assert missing == []


def test_the_index_of_decisions_names_every_page() -> None:
    folder = ROOT / "docs" / "adr"
    pages = {page.name for page in folder.glob("[0-9]*.md")}
    assert set(targets(folder / "README.md")) == pages
    for page in pages:
        assert (folder / page).read_text().startswith(f"# {page[:4]}. ")


def named_reasons() -> set[str]:
    """The reasons of `failed` receipts that some line of the server names, by their value."""
    found: set[str] = set()
    for file in sorted(one for room in ("broker", "plugins") for one in (ROOT / room).rglob("*.py")):
        tree = ast.parse(file.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        known = {
            alias.asname or alias.name
            for node in imports
            if node.module == "aldis.broker.core.envelope"
            for alias in node.names
            if alias.name == "Reason"
        } | ({"Reason"} if file.name == "envelope.py" else set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
                found.add(Reason[node.attr].value)
    return found


def test_the_contract_lists_every_reason_that_the_server_gives_and_no_other() -> None:
    section = (ROOT / "docs" / "protocol.md").read_text().partition("| reason | what to do |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)` \| \S", section, re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == named_reasons() == {reason.value for reason in Reason}
