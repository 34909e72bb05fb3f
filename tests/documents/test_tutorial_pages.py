"""The pages of the tutorial: a program in pieces and whole, with what is new in it marked."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))
pytest.importorskip("docutils", reason="sphinx is not installed")

rung, timeline = importlib.import_module("rung"), importlib.import_module("timeline")

PAGES = [DOCS / "tutorial" / f"s{number:02d}.md" for number in range(1, 14)]


def shown(page: Path) -> list[tuple[str, dict[str, str]]]:
    """(the program, the options) of each time that the page shows one."""
    found = re.findall(r"^```{rung} (\S+)\n((?::\w+: .*\n)*)```$", page.read_text(), re.MULTILINE)
    return [
        (name, {key: value.strip("'") for key, value in re.findall(r":(\w+): (.*)\n", options)})
        for name, options in found
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_its_program_in_pieces_and_at_its_end_whole(page):
    *pieces, (whole, options) = [each for each in shown(page) if "_naive" not in each[0]]
    assert "from" not in options
    assert len(pieces) >= 3
    text = page.read_text()
    lines = rung.program(whole)
    for name, cut in pieces:
        assert name == whole
        part = rung.piece(lines, cut["from"], cut.get("to"))
        assert 0 < len(part) < 25
        # A sentence before it says what it does.
        before = text[: text.index(cut["from"], text.index(f"```{{rung}} {whole}"))]
        assert re.search(r"[.:?]\n\n```{rung} [^`]*$", before)


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.stem)
def test_what_is_new_is_marked_since_the_rung_before(page):
    for name, options in shown(page):
        if "_naive" not in name:
            number = int(page.stem[1:])
            assert options["since"].startswith(f"s{number - 1:02d}_")
            assert rung.new_lines(rung.program(name), rung.program(options["since"]))


def test_what_is_new_is_what_was_not_there():
    before = ['"""Head."""', "a = 1", "if a:", "    print(a)"]
    after = ['"""Another head."""', "a = 1", "", "while a:", "    print(a)", "    b()"]
    assert rung.new_lines(after, before) == {3, 5}
    assert rung.new_lines(before, before) == set()


def test_a_line_that_is_only_further_in_is_not_new():
    assert rung.new_lines(["if x:", "    a()"], ["a()"]) == {0}


@pytest.mark.parametrize(
    ("begin", "end", "part"),
    [
        (None, None, range(7)),
        ("def f", None, range(3, 6)),
        ("x = 1", "return", range(4, 6)),
        ("return", None, range(5, 6)),
    ],
)
def test_a_piece_ends_where_it_is_told_or_where_its_block_does(begin, end, part):
    lines = ['"""x = 1', "", '"""', "def f():", "    x = 1", "    return x", "f()"]
    assert rung.piece(lines, begin, end) == part


@pytest.mark.parametrize(("begin", "end"), [("nowhere", None), ("def f", "nowhere")])
def test_a_piece_that_there_is_not_is_an_error(begin, end):
    with pytest.raises(ValueError, match="nowhere"):
        rung.piece(["def f():", "    pass"], begin, end)


def test_the_legend_says_what_the_colours_of_the_picture_say_and_no_more():
    legend = timeline.legend(["server: wait 2 accept(); run 1 echo", "client: gap 1; run 1"])
    assert "runs" in legend
    assert "sleeps" in legend
    assert "wrong" not in legend
