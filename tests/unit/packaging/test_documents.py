"""The documents point only to what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def targets(document: Path) -> list[str]:
    """Relative links and pictures, without those in code."""
    text = re.sub(r"^(```|~~~).*?^\1$", "", document.read_text(), flags=re.M | re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", target)]


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
