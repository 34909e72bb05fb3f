"""The page of events says what the code does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_events_is_up_to_date():
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "_ext" / "events_page.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    page = ROOT / "docs" / "reference" / "events.md"
    assert page.read_text() == made.stdout, "run: make docs/reference/events.md"
