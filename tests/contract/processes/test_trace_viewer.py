"""The page of a trace, in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from anysock.traces.format import Line, head_of, read
from anysock.traces.page import trace_page
from tests.browser import Page, picture

EXAMPLES = Path(__file__).parents[3] / "docs" / "_static" / "traces"


def show(page: Page, head: Line, events: list[Line], folder: Path) -> None:
    path = folder / "trace.html"
    path.write_text(trace_page(head, events))
    page.open(path.as_uri())


def show_example(page: Page, name: str, folder: Path) -> list[Line]:
    head, events = read(EXAMPLES / f"{name}.jsonl")
    show(page, head, events, folder)
    return events


def key(page: Page, name: str, shift: bool = False) -> None:
    event = json.dumps({"key": name, "shiftKey": shift, "bubbles": True})
    page.ask(f"document.body.dispatchEvent(new KeyboardEvent('keydown', {event})), 1")


def text(page: Page, selector: str) -> str:
    found = page.ask(f"document.querySelector({json.dumps(selector)}).innerText")
    assert isinstance(found, str)
    return found


def painted(page: Page, colour: str) -> int:
    """How many pixels of the lanes have a colour of the palette."""
    page.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return int(
        page.ask(
            f"""(() => {{
                const probe = new OffscreenCanvas(canvas.width + 1, canvas.height)
                    .getContext('2d', {{willReadFrequently: true}});
                probe.drawImage(canvas, 1, 0);
                probe.fillStyle = palette.{colour}; probe.fillRect(0, 0, 1, 1);
                const {{data}} = probe.getImageData(0, 0, canvas.width + 1, canvas.height);
                const [r, g, b] = data;
                let count = 0;
                for (let at = 0; at < data.length; at += 4)
                    count += data[at] === r && data[at + 1] === g && data[at + 2] === b;
                return count;
            }})()"""
        )
    )


@pytest.mark.parametrize(
    ("name", "said", "colour"),
    [
        ("blocking-step", "holds up all others for [2-9][0-9][0-9] ms", "slow"),
        ("slow-reader", "for a peer that does not read", "write"),
        ("lost-wake-up", "first reader waits [5-9][0-9][0-9] ms", "event"),
    ],
)
def test_each_example_shows_what_is_wrong(name, said, colour, page, tmp_path):
    events = show_example(page, name, tmp_path)
    bad = page.ask("[...document.querySelectorAll('#notes .bad')].map(each => each.innerText)")
    assert len(bad) == 1
    assert re.search(said, bad[0])
    assert painted(page, colour) > 300
    page.click("#notes .bad")
    at = page.ask("view.cursor")
    assert events[at]["e"] == "step"
    if name == "blocking-step":
        assert events[at]["ran"] > 150_000_000
    else:
        assert events[at]["wait"] == ("write" if name == "slow-reader" else "event")
    assert page.ask("document.querySelector('#now .here').innerText")


def test_it_goes_on_and_back_turn_by_turn_and_shows_the_lists_of_the_loop(page, tmp_path):
    events = show_example(page, "lost-wake-up", tmp_path)
    turns = [number for number, event in enumerate(events) if event["e"] == "turn"]
    assert page.ask("turns") == turns
    page.click("#forward")
    page.click("#forward")
    assert page.ask("view.cursor") == turns[2]
    assert f"turn 3 of {len(turns)}" in text(page, "#place")
    key(page, "ArrowLeft")
    assert page.ask("view.cursor") == turns[1]
    state = text(page, "#state")
    assert "Ready (0)" in state
    assert "first reader waits for an event" in state
    assert "second reader waits for an event" in state
    assert "main sleeps until 1" in state
    assert "Timers (2)" in state
    assert ": r" in state.partition("The poller is asked")[2]
    key(page, "ArrowRight", shift=True)
    assert page.ask("view.cursor") == turns[1] + 1
    assert "Ready (1)" in text(page, "#state")  # the second has not had its step yet
    key(page, "End")
    assert page.ask("view.cursor") == turns[-1]
    assert page.ask("document.getElementById('forward').disabled")
    key(page, "Home")
    assert page.ask("view.cursor") == turns[0]


def test_the_state_is_the_same_from_wherever_one_comes(page, tmp_path):
    show_example(page, "blocking-step", tmp_path)
    assert page.ask(
        """(() => {
            const flat = (state) => JSON.stringify(Object.values(state).map((map) => [...map]));
            const there = events.map((_, index) => flat(stateAfter(index)));
            kept.length = 0;
            return events.every((_, index) =>
                flat(stateAfter(events.length - 1 - index)) === there[events.length - 1 - index]);
        })()"""
    )


def test_it_zooms_searches_and_filters(page, tmp_path):
    events = show_example(page, "blocking-step", tmp_path)
    before = page.ask("view.to - view.from")
    page.click("#in")
    assert page.ask("view.to - view.from") == pytest.approx(before / 2)
    key(page, "-")
    assert page.ask("view.to - view.from") == pytest.approx(before)
    key(page, "/")
    assert page.ask("document.activeElement.id") == "search"
    page.type("is spawned")
    wanted = [number for number, event in enumerate(events) if event["e"] == "task"]
    assert text(page, "#hits") == f"{len(wanted)} found"
    page.ask("goTo(0), search(1), search(1), 1")
    after = [number for number in wanted if number > 0]
    assert page.ask("view.cursor") == after[1]
    assert text(page, "#hits") == f"{wanted.index(after[1]) + 1} of {len(wanted)}"
    page.ask("search(-1), 1")
    assert page.ask("view.cursor") == after[0]
    page.ask("document.getElementById('search').value = 'no such thing', search(0), 1")
    assert text(page, "#hits") == "nothing found"
    conn = next(event["conn"] for event in events if event["e"] == "serves")
    page.ask(
        f"document.getElementById('filter').value = {json.dumps(conn)},"
        "document.getElementById('filter').dispatchEvent(new Event('input')), 1"
    )
    shown = page.ask("view.shown.map(lane => lane.name)")
    assert len(shown) == 2
    assert shown[0] == "loop: asleep"
    assert shown[1].startswith("client 127.0.0.1:")


def test_a_click_on_a_lane_goes_there(page, tmp_path):
    events = show_example(page, "blocking-step", tmp_path)
    longest = max(
        (each for each in events if each["e"] == "step"), key=lambda each: int(each["ran"])
    )
    x, y = page.ask(
        f"""(() => {{
            const box = canvas.getBoundingClientRect();
            const middle = y(laneOf.get({longest["task"]}).row) + LANE / 2;
            return [box.x + x({longest["t"] + longest["ran"] // 2}), box.y + middle];
        }})()"""
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    assert page.ask("view.cursor") == events.index(longest)


def history() -> tuple[Line, list[Line]]:
    to, back = {"host": "client0", "to": "server"}, {"host": "server", "to": "client0"}
    events: list[Line] = [
        {"t": 0, "e": "mark", "host": "server", "what": "listens", "text": "tcp://10.0.0.2:7"},
        {"t": 5_000_000, "e": "segment", **to, "what": "data", "bytes": 3},
        {"t": 6_000_000, "e": "differs", "text": "a history that does not fail (no reset)"},
        {"t": 6_000_000, "e": "fault", "host": "server", "what": "reset", "text": "10.0.0.3:9"},
        {"t": 7_000_000, "e": "segment", **back, "what": "rst", "bytes": 0},
        {"t": 8_000_000, "e": "finding", "text": "answered: 3 bytes are <missing> & gone"},
        {"t": 9_000_000, "e": "end", "why": "over"},
    ]  # fmt: skip
    return head_of("sim", "sim", "A <history>", began=None, version="1"), events


def test_a_history_has_a_lane_for_each_host_and_its_first_difference_marked(page, tmp_path):
    show(page, *history(), tmp_path)
    assert page.ask("document.title") == "A <history> – Anysock trace"
    assert page.ask("view.shown.map(lane => lane.name)") == ["server", "client0", "found"]
    notes = page.ask("[...document.querySelectorAll('#notes button')].map(each => each.innerText)")
    assert notes == [
        "first difference: a history that does not fail (no reset)",
        "FOUND: answered: 3 bytes are <missing> & gone",
    ]
    page.click("#notes button")
    assert "FAULT reset" in text(page, "#now .here")
    assert painted(page, "slow") > 50


def test_a_hundred_thousand_events_are_painted_one_pixel_once(page, tmp_path):
    """What is drawn is bounded by the pixels, and not by the events: that is why it is quick."""
    head = head_of("serve", "selector", "many", began="2026-01-01T00:00:00+00:00", version="1")
    events: list[Line] = [
        {"t": task, "e": "task", "task": task, "name": f"client {task}"} for task in range(50)
    ]
    for number in range(50_000):
        t = 1000 + number * 10_000
        events.append({"t": t, "e": "turn", "slept": 2000, "events": 1})
        events.append(
            {"t": t + 100, "e": "step", "task": number % 50, "ran": 7000, "wait": "read", "fd": 9}
        )
    show(page, head, events, tmp_path)
    drawn = page.ask(
        """(() => {
            let count = 0;
            const fill = pen.fillRect;
            pen.fillRect = (...box) => { count++; fill.apply(pen, box); };
            paint();
            delete pen.fillRect;
            return count;
        })()"""
    )
    assert 500 < drawn < 52 * 1280 * 2
    key(page, "End")
    assert "turn 50,000 of 50,000" in text(page, "#place")
    assert "Paused (50)" in text(page, "#state")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 800, 1280])
def test_it_fits(width, dark, page, tmp_path):
    page.look(width, 800, dark=dark)
    show_example(page, "blocking-step", tmp_path)
    assert page.ask("document.documentElement.scrollWidth") <= width
    assert painted(page, "slow") > 100
    assert painted(page, "paper") > 1000
    page.click("#notes .bad")
    picture(page, f"trace-{width}-{'dark' if dark else 'light'}")


def at(page: Page, what: str) -> str:
    """Go where a client tells that first; what is said beside the lanes."""
    page.ask(f"goTo(events.findIndex(each => each.e === 'mark' && {what}), true), 1")
    return text(page, "#state")


def test_a_client_is_seen_to_wait_in_the_queue_of_a_program_that_blocks(page, tmp_path):
    show_example(page, "rungs/s04_blocking", tmp_path)
    assert page.ask("view.shown.map(lane => lane.name)") == [
        "server", "program", "Ann", "Bob", "Cleo",
    ]  # fmt: skip
    state = at(page, "each.host === 'Cleo' && each.what === 'says'")
    queue, _, connections = state.partition("Connections (1)")
    assert "In the listener's queue (2)" in queue
    assert re.search(r"Bob 127.*\nCleo 127", queue)
    assert re.search(r"Ann 127\.0\.0\.1:\d+, descriptor \d+: got 0 B, sent 0 B", connections)
    assert "program waits to read" in state
    assert "The poller" not in state
    assert "In the listener's queue (1)" in at(
        page, "each.host === 'Bob' && each.what === 'leaves'"
    )
    assert painted(page, "read") > 300
    keys = page.ask("[...document.querySelectorAll('#legend .key')].map(each => each.innerText)")
    assert keys == ["runs", "ready", "waits to receive", "waits to send"]
    assert "engine" not in text(page, "#about")


def test_what_is_asked_in_vain_is_told(page, tmp_path):
    events = show_example(page, "rungs/s07_polling", tmp_path)
    assert painted(page, "run") > 5000  # it never sleeps
    most = max(event.get("vain", 0) for event in events)
    said = page.ask(f"words(events.find(each => each.vain === {most}))")
    assert f", asks in vain {most:,} times, then is ready again" in said
    show_example(page, "rungs/s08_selectors", tmp_path)
    state = at(page, "each.host === 'Bob' && each.what === 'is answered'")
    assert "program waits for the poller" in state


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_rung_fits(width, dark, page, tmp_path):
    page.look(width, 704, dark=dark)
    show_example(page, "rungs/s09_event_loop", tmp_path)
    assert page.ask("document.documentElement.scrollWidth") <= width
    at(page, "each.host === 'Bob' && each.what === 'says'")
    picture(page, f"rung-{width}-{'dark' if dark else 'light'}")
