"""What is told of a history: its story in twenty lines, and its page."""

from __future__ import annotations

import html.parser
from typing import Any

import pytest

from anysock.sim.cases import Case
from anysock.sim.finding import Finding
from anysock.sim.page import ENTRIES, history_page, repeats
from anysock.sim.plan import Plan
from anysock.sim.scenario import run_history
from anysock.sim.story import LINES, all_lines, story

WRONG = Finding("bytes", "client 1 received <wrong> bytes", 2.5)
SENT = [(n / 10, "client1", "data", "server", 100 + n, 4711) for n in range(3)]


def test_segments_that_follow_each_other_are_one_line():
    told = story([*SENT, (0.4, "client1", "fin", "server", 0)])
    assert told == [
        "    0.0000  client1   > server  303 B in 3 segments",
        "    0.4000  client1   > server  end of stream",
    ]


def test_a_fault_stands_out_and_an_acknowledgement_is_left_out():
    trace = [
        (0.1, "server", "ack", "client1", 0),
        (0.2, "server", "emfile", 0.25),
        (0.3, "server", "reset", ("10.0.0.3", 32768), ("10.0.0.2", 7)),
        (0.4, "server", "closed", ("10.0.0.3", 32768), "lost"),
        (0.5, "network", "carried", "00000000"),
    ]
    assert [line.split(maxsplit=2)[2] for line in story(trace)] == [
        "EMFILE 0.25", "RESET 10.0.0.3:32768 10.0.0.2:7", "closed 10.0.0.3:32768 lost",
    ]  # fmt: skip
    assert len(list(all_lines(trace))) == 5


@pytest.mark.parametrize("faults", [0, 1, 5, 40])
def test_a_story_has_twenty_lines_with_the_faults_between(faults):
    trace: list[tuple[Any, ...]] = [(n, "server", "serves", ("10.0.0.3", n)) for n in range(100)]
    for n in range(faults):
        trace[30 + n] = (30 + n, "server", "stall", 0.1)
    told = story(trace, WRONG)
    assert len(told) <= LINES
    assert told[0].endswith("serves 10.0.0.3:0")
    assert told[-2].endswith("serves 10.0.0.3:99")
    assert told[-1] == "    2.5000  =>        client 1 received <wrong> bytes"
    assert any("more …" in line for line in told)
    assert sum("STALL" in line for line in told) >= min(faults, 2)
    left_out = sum(int(line.split()[1]) for line in told if "more …" in line)
    shown = sum("more …" not in line for line in told) - 1
    assert left_out + shown == 100


class Page(html.parser.HTMLParser):
    """The texts of a page, and its tags, which must be closed in their order."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_has_all_in_it():
    plan = Plan.draw(3, clients=3, messages=4)
    trace = run_history(Case("echo"), plan).network.trace
    text = history_page(plan, trace, WRONG, repeats("my handler", ".sim/3.json"))
    page = Page(text)
    assert "client 1 received <wrong> bytes" in page.texts
    assert "anysock sim 'my handler' --replay .sim/3.json" in page.texts
    [written] = [each for each in page.texts if each.startswith("{")]
    assert Plan.from_json(written) == plan
    # Nothing is fetched.
    assert "http" not in text.replace("http-equiv", "")
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img"}
    arrows = [each for tag, each in page.tags if tag == "line" and "marker-end" in each]
    sent = [entry for entry in trace if entry[2] in ("data", "fin", "rst")]
    assert len(arrows) == len(sent) > 5
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_a_long_history_is_drawn_in_part():
    trace = [(n, "server", "data", "client1", n, 0) for n in range(3 * ENTRIES)]
    page = Page(history_page(Plan(1), trace, None))
    assert "The history of seed 1" in page.texts
    assert f"{2 * ENTRIES:,} entries in the middle are left out." in page.texts
    assert len([each for tag, each in page.tags if "marker-end" in each]) == ENTRIES


def test_what_a_trace_says_is_no_markup():
    trace = [(0.0, "server", "handler failed", "<b>\x1b[31m", "ValueError('<i>')")]
    page = Page(history_page(Plan(1), trace, None))
    assert not {tag for tag, _ in page.tags} & {"b", "i"}
    assert not any("\x1b" in text for text in page.texts)
