"""Pages that are made of the code say what it does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["events", "simulation", "trace"])
def test_the_page_is_up_to_date(name):
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "_ext" / f"{name}_page.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    page = ROOT / "docs" / "reference" / f"{name}.md"
    assert page.read_text() == made.stdout, f"run: make docs/reference/{name}.md"
