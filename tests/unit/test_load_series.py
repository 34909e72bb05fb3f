"""A load by interval: what its workers say, put together; and the lines and pages of it."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from typing import Any

import pytest

from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.bench.reports.lines import HEADER, WIDTH, interval_line
from anysock.bench.reports.load_pages import load_page, search_page
from anysock.bench.reports.over_time import over_time
from anysock.bench.reports.wording import time_text
from anysock.bench.search import Bound, Search, judge
from anysock.bench.series import Interval, Series, cell_edges
from anysock.errors import UsageError
from anysock.net.addresses import Address
from tests.browser import Page, browsing, picture

HERE = Address("127.0.0.1", 7)


def bucket_of(seconds: float) -> int:
    """As the workers count it: the upper half of the float."""
    bits: int = struct.unpack("=I", struct.pack("=f", seconds))[0]
    return bits >> 16


def tick(at: float, messages: int = 0, took: float = 1e-3, **errors: int) -> dict[str, Any]:
    """What a worker says, `at` seconds since it began; each message took so long."""
    echo = {str(bucket_of(took)): messages} if messages else {}
    return {"tick": messages, "echo": echo, "at": at, "errors": errors, "sent": 0, "received": 0}


def test_the_messages_of_all_workers_are_in_the_interval_in_which_they_came():
    series = Series(Plan(HERE, processes=2, interval=0.5, duration=1.0))
    over = []
    for worker, messages in ((0, 10), (1, 20)):
        for at in (0.25, 0.5, 0.7501, 1.0):
            over += series.add(worker, tick(at, messages if at < 0.6 else 1))
        over += series.end(worker)
    assert over == series.intervals
    assert [each.messages for each in over] == [60, 4]
    assert [(each.begin, each.end) for each in over] == [(0.0, 0.5), (0.5, 1.0)]
    assert over[0].rate == 120


def test_an_interval_is_told_once_every_worker_is_beyond_it():
    series = Series(Plan(HERE, processes=2, interval=0.25, duration=1.0))
    assert series.add(0, tick(0.25)) == []
    assert series.add(0, tick(0.5)) == []
    assert series.add(1, tick(0.25)) == []
    [first] = series.add(1, tick(0.5))
    assert (first.begin, first.end) == (0.0, 0.25)


def test_a_late_tick_and_the_rest_after_the_last_are_no_intervals_of_their_own():
    series = Series(Plan(HERE, interval=0.25, duration=0.5))
    for said in (tick(0.2501, 1), tick(0.5004, 1), tick(0.5009, 1)):
        series.add(0, said)
    series.end(0)
    assert [each.messages for each in series.intervals] == [1, 2]
    assert series.intervals[-1].end == 0.5009


def test_a_worker_that_was_held_up_leaves_no_interval_without_time():
    series = Series(Plan(HERE, interval=0.25, duration=2.0))
    for said in (tick(0.25, 1), tick(1.25, 100), tick(1.5, 1)):
        series.add(0, said)
    series.end(0)
    assert [each.rate for each in series.intervals] == [4, 100, 4]


def test_errors_and_percentiles_are_those_of_the_interval():
    series = Series(Plan(HERE, interval=0.25, duration=0.5))
    series.add(0, tick(0.25, 2000, 1e-3))
    series.add(0, tick(0.5, 19, 20e-3, reset=3))
    series.end(0)
    first, second = series.intervals
    assert not first.errors
    assert second.errors == {"reset": 3}
    assert first.echo["p99"] == pytest.approx(1e-3, rel=0.01)
    # Of 19, not even a p50 is told.
    assert second.echo["p50"] is None
    assert second.echo["max"] == pytest.approx(20e-3, rel=0.01)
    [(cell, count)] = second.cells.items()
    low, high = cell_edges(cell)
    assert count == 19
    assert low <= 20e-3 < high <= low * 1.26


def test_a_line_has_its_columns_or_says_it_in_words():
    interval = Interval(1.0, 2.0, 12_345, echo={"p50": 1e-3, "p99": None})
    plan = Plan(HERE)
    line = interval_line(interval, plan, wide=True)
    assert line.split() == ["1.00-2.00", "s", "12,345/s", "790", "kB/s", "0", "1", "ms", "–"]
    assert len(line) == len(HEADER) == WIDTH
    interval.errors["reset"] = 2
    assert interval_line(interval, plan, wide=False) == (
        "1.00-2.00 s: 12,345/s, 790 kB/s, 2 errors, p50 1 ms, p99 –  2 × reset"
    )


def test_too_short_and_too_many_intervals_are_refused():
    with pytest.raises(UsageError, match="100ms at least"):
        Plan(HERE, interval=0.09).check()
    with pytest.raises(UsageError, match="more than 10,000"):
        Plan(HERE, interval=0.1, duration=1001).check()
    assert Plan(HERE, interval=1.0).tick == 0.25
    assert Plan(HERE, interval=0.3).tick == 0.15


def outcome(rate: float | None = None, **errors: int) -> Outcome:
    """Of two intervals, with errors in the second."""
    series = Series(Plan(HERE, interval=0.25, duration=0.5))
    series.add(0, tick(0.25, 2000, 1e-3))
    series.add(0, tick(0.5, 1000, 3e-3, **errors))
    series.end(0)
    found = Outcome(Plan(HERE, rate=rate, duration=0.5), 0.5, 3000, 1, intervals=series.intervals)
    for each in series.intervals:
        found.echo.add(each.echo["max"] or 0.0, each.messages)
        found.errors.update(each.errors)
    return found


def one_way() -> Outcome:
    """Both ways at once, in two intervals."""
    plan = Plan(HERE, mode="both", interval=0.25, duration=0.5)
    series = Series(plan)
    for at in (0.25, 0.5):
        series.add(0, tick(at) | {"sent": 1000, "received": 500})
    series.end(0)
    return Outcome(plan, 0.5, bytes_sent=2000, bytes_received=1000, intervals=series.intervals)


def test_data_that_flow_one_way_are_told_as_bytes():
    found = one_way()
    assert found.ok
    assert found.flows == {"sent": 4000, "received": 2000}
    first, second = found.to_dict()["intervals"]
    assert (first["sent_a_second"], first["received_a_second"]) == (4000, 2000)
    assert "messages" not in second
    line = interval_line(found.intervals[0], found.plan, wide=True)
    assert re.split(r"\s{2,}", line.strip()) == [
        "0.00-0.25 s", "0", "4 kB/s, 32 kbit/s", "2 kB/s, 16 kbit/s",
    ]  # fmt: skip
    assert interval_line(found.intervals[0], found.plan, wide=False) == (
        "0.00-0.25 s: 4 kB/s, 32 kbit/s sent; 2 kB/s, 16 kbit/s received; 0 errors"
    )


# How many points of a figure's canvas have the colour of a variable of the page's style.
_INK = """((number, variable) => {
  const canvas = document.querySelectorAll("figure canvas")[number];
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  const brush = copy.getContext("2d", {willReadFrequently: true});
  brush.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  brush.fillRect(0, 0, 1, 1);
  const wanted = brush.getImageData(0, 0, 1, 1).data;
  brush.clearRect(0, 0, 1, 1);
  brush.drawImage(canvas, 0, 0);
  const {data} = brush.getImageData(0, 0, copy.width, copy.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4)
    if ([0, 1, 2, 3].every((part) => Math.abs(data[at + part] - wanted[part]) < 3)) found += 1;
  return found;
})"""


def painted(page: Page) -> None:
    """Until all figures are, which uPlot does a moment after it was told."""
    page.until(f"[...document.querySelectorAll('figure')].every((_, at) => {_INK}(at, '--note'))")


def pointed_at(page: Page, figure: int, across: float, up: float = 0.5) -> str:
    """What a figure says where the pointer is: shares of its width and its height."""
    over = f"document.querySelectorAll('figure .u-over')[{figure}]"
    page.ask(f"{over}.scrollIntoView({{block: 'center'}})")
    box = page.ask(f"{over}.getBoundingClientRect().toJSON()")
    left, top, width, height = (box[name] for name in ("x", "y", "width", "height"))
    at = {"x": left + across * width, "y": top + (1 - up) * height}
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    told = f"document.querySelectorAll('figure')[{figure}].querySelectorAll('.said, tr > *')"
    return str(page.until(f"[...{told}].map((each) => each.textContent).join(' ')"))


def test_the_pages_show_it_over_time_with_marks_and_without_a_complaint(tmp_path):
    bound = Bound.parse("p99<2ms")
    steps = [judge(outcome(rate), bound) for rate in (4000, 6000)]
    pages = {"load": load_page(outcome(reset=3)), "search": search_page(Search(bound, steps))}
    pages["one-way"] = load_page(one_way())
    # What is said of the second interval, and of the last one.
    told = {
        "load": (1, "at 0.375 s messages 4,000/s errors 3 × reset"),
        "search": (1, "at 0.875 s, 6,000/s ✗ messages 4,000/s"),
        "one-way": (0, "at 0.375 s sent 4 kB/s received 2 kB/s"),
    }
    with browsing() as page:
        for name, text in pages.items():
            assert len(text) < 100_000
            path = tmp_path / f"{name}.html"
            path.write_text(text, encoding="utf-8")
            for width, dark in ((400, True), (800, True), (1280, False)):
                page.look(width, 900, dark=dark)
                page.open(path.as_uri())
                painted(page)
                picture(page, f"{name}-{width}")
                assert page.ask("document.documentElement.scrollWidth <= innerWidth")
                figures = page.ask("document.querySelectorAll('figure').length")
                assert figures == (1 if name == "one-way" else 4)
                throughput, says = told[name]
                assert page.ask(f"{_INK}({throughput}, '--line-1')") > 30
                bad = [page.ask(f"{_INK}({figure}, '--bad')") for figure in range(figures)]
                assert [number > 10 for number in bad] == [
                    name == "load" and figure >= throughput for figure in range(figures)
                ]
                assert pointed_at(page, throughput, 0.9) == says
        assert page.complaints == []


def test_a_page_is_drawn_in_the_colours_of_the_night_when_that_falls(tmp_path):
    path = tmp_path / "load.html"
    path.write_text(load_page(outcome(reset=3)), encoding="utf-8")
    with browsing() as page:
        page.look(800, 900)
        page.open(path.as_uri())
        painted(page)
        page.look(800, 900, dark=True)
        page.until(f"{_INK}(1, '--line-1') > 30 && {_INK}(1, '--bad') > 10")
        page.look(400, 900, dark=True)
        page.until("document.querySelectorAll('figure canvas')[1].width < 400")
        assert page.ask("document.documentElement.scrollWidth <= innerWidth")
        assert page.complaints == []


def test_the_heat_map_says_what_is_under_the_pointer(tmp_path):
    path = tmp_path / "load.html"
    path.write_text(load_page(outcome(reset=3)), encoding="utf-8")
    [(cell, _)] = outcome().intervals[1].cells.items()
    low, high = (time_text(edge) for edge in cell_edges(cell))
    with browsing() as page:
        page.look(800, 900)
        page.open(path.as_uri())
        painted(page)
        # All that is dark blue in it are two cells of 100 %.
        assert page.ask(f"{_INK}(3, '--ours')") > 300
        said = {pointed_at(page, 3, 0.9, up / 50) for up in range(1, 50)}
    assert f"0.375 s; {low} to {high}: 100 % of its messages; errors: 3 × reset" in said
    assert any(": 0 % of its messages" in each for each in said)


def test_a_page_of_very_many_intervals_puts_some_together():
    plan = Plan(HERE, interval=0.1, duration=1000)
    echo = {f"p{percent:g}": percent / 123_457 for percent in (50, 90, 99, 99.9)} | {"max": 0.5}
    cells = Counter({cell: 100 + cell for cell in range(450, 470)})
    every = sum(cells.values())
    intervals = [
        Interval(at / 10, (at + 1) / 10, every, echo=dict(echo), cells=cells.copy())
        for at in range(10_000)
    ]
    intervals[4321].errors["reset"] = 1
    intervals[4322].echo["p50"] = 1.0
    intervals[4323].echo["p50"] = None
    page = load_page(Outcome(plan, 1000.0, 1, 1, intervals=intervals))
    assert "A point stands for up to 10 intervals" in page
    assert "in 1 of 10,000 intervals" in page
    throughput, percentiles, _ = [
        json.loads(each.partition("</script>")[0])
        for each in page.split('<script type="application/json">')[1:]
    ]
    assert throughput["lines"] == [["messages", [every * 10] * 1000]]
    assert throughput["errors"] == {"432": "1 × reset"}
    p50 = percentiles["lines"][0][1]
    assert (len(p50), p50[431], p50[432]) == (1000, pytest.approx(echo["p50"], rel=1e-5), 1)
    assert len(page) < 500_000


def test_of_very_many_intervals_none_of_two_steps_are_put_together():
    steps = []
    for mark, rate in (("slow", 100), ("fast", 200)):
        plan = Plan(HERE, rate=rate, interval=0.1, duration=70.1)
        intervals = [Interval(at / 10, (at + 1) / 10, rate) for at in range(701)]
        steps.append((mark, Outcome(plan, 70.1, intervals=intervals)))
    [throughput] = [part for part in over_time(steps) if "<figure" in part]
    told = json.loads(throughput.split('"application/json">')[1].split("</script>")[0])
    assert told["marks"] == [[0, "slow"], [70.1, "fast"]]
    [(_, rates)] = told["lines"]
    assert rates == [1000] * 351 + [2000] * 351


def test_what_an_error_is_called_ends_no_script():
    found = outcome(**{"</script><script>alert(1)": 1})
    assert "</script><script>alert" not in load_page(found)
