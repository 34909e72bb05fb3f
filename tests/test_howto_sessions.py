"""The how-to pages for who runs a server: what they show is typed, and what is printed compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.sessions import Session, matches

HOWTO = Path(__file__).parents[1] / "docs" / "howto"

#: Page, and the program that it needs besides ours.
PAGES = {
    "workers": None,
    "behind-haproxy": "haproxy",
    "observe": "curl",
    "systemd": "systemd-socket-activate",
}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_shows(page, tmp_path):
    program = PAGES[page]
    if program is not None and shutil.which(program, path="/usr/sbin:/usr/bin:/bin") is None:
        pytest.skip(f"{program} is not installed")
    Session(HOWTO / f"{page}.md", tmp_path).run()


def test_what_is_shown_is_compared():
    assert matches(["hello 12", "...", "end"], ["hello 7", "a", "b", "end"])
    assert matches(["a ... c"], ["a b c"])
    assert not matches(["hello"], ["hello", "more"])
    assert not matches(["hello"], ["hullo"])
