"""The pages for people who change the source name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "anysock"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs" / "explanation").glob("*.md")),
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]

# What a page asks its reader to create.
NEW = re.compile(r"NAME|package\.module")


def names_of_files(page: Path) -> set[str]:
    """What stands in backticks and is the path of a file or of a folder."""
    shown = re.findall(r"`([\w./-]+)`", page.read_text())
    ends = (".py", ".md", ".toml", ".txt", ".yaml", ".svg", ".css", ".json", "/")
    return {name for name in shown if name.endswith(ends) and not NEW.search(name)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    for name in names_of_files(page):
        places = [ROOT / name, SOURCE / name, SOURCE.parent / name]
        found = any(place.exists() for place in places)
        if "/" not in name:
            found = found or any(SOURCE.rglob(name))
        assert found, f"{page.name} names {name}"


def test_the_pages_name_files():
    for page in ("CONTRIBUTING.md", "docs/explanation/architecture.md"):
        assert len(names_of_files(ROOT / page)) > 10


def test_the_classes_and_methods_that_the_walk_names_exist():
    """Of ours: `Session`, `Session.part`; each is defined in the source."""
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    walk = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = set(re.findall(r"`([A-Z][a-z]\w+)(?:\.(\w+))?(?:\(\d+\))?`", walk))
    assert len(named) > 10
    for class_, member in named:
        assert f"class {class_}" in source, class_
        places = (f"def {member}(", f"    {member} = ")  # a method, or one of an enum
        assert not member or any(place in source for place in places), member


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name == "decisions"], ids=lambda page: page.stem
)
def test_a_decision_says_why_and_what_was_measured(page):
    headings = re.findall(r"^## (.+)", page.read_text(), re.MULTILINE)
    if page.stem != "index":
        assert headings == ["Context", "Decision", "Consequences", "Measured"]
