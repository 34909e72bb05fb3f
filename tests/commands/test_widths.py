"""Whatever the terminal's width, no figure is cut, in any table of any command."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from anysock.bench.generator.latencies import Latencies, Samples
from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.bench.processes import Cpu
from anysock.bench.reports import text as bench_text
from anysock.bench.reports.sheets import Sheet
from anysock.bench.search import Bound, Search, Step
from anysock.cli.progress import LoadProgress
from anysock.cli.sim_progress import progress
from anysock.lab import text as lab_text
from anysock.lab.catalogue import chosen
from anysock.lab.claims import Finding, Result, Verdict
from anysock.net.addresses import Address
from anysock.sim.explore import Asked, Tally
from tests import prepared
from tests.commands.test_bench import results, sweep
from tests.harness import PATIENCE

WIDTHS = (40, 60, 80, 200)


def shown(report, width):
    """What a terminal of that width shows of it."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    console.print(report)
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())


def figures(told):
    return Counter(re.findall(r"\S*\d\S*", told))


def latencies():
    samples = Samples()
    for number in range(20_000):
        samples.add(0.000123 * (1 + number % 1000))
    return Latencies.of(samples.take())


def outcome():
    plan = Plan(Address("127.0.0.1", 7), connections=5000, size=262_144, rate=123_456.0)
    found = Outcome(plan, seconds=10.0, messages=1_234_567, opened=5123)
    found.echo = found.connect = found.first_byte = found.late = latencies()
    found.load_cpu = [0.97, 0.98]
    found.server_cpu = Cpu(16.86, 12.3, 4.56)
    found.errors["reset"] = 1_234
    found.unanswered = 5_678
    return found


def comparison():
    found = results([(123_456, 98_765)] * 6)
    found.idle["base"] = {"bytes": 12_345.0, "cpu": 0.0123}
    found.missing["uring"] = "this kernel has no io_uring_setup(2)"
    return found


def lab_results():
    claims = chosen(())[:4]
    findings = [
        Finding("selector", "0.123 ms at the median, 41.7 ms at p99", Verdict.CONFIRMED, 0.1),
        Finding("asyncio", "1,234,567 messages a second", Verdict.REFUTED, 0.2),
    ]
    return [Result(claim, findings) for claim in claims]


REPORTS = {
    "load": lambda: bench_text.outcome_report(outcome()),
    "find-rate": lambda: bench_text.search_report(
        Search(Bound.parse("p99<1s"), [Step(98_765.0, outcome(), None)])
    ),
    "find-rate, a step": lambda: bench_text.step_text(
        Step(123_456.0, outcome(), "p99 is 1,234 ms")
    ),
    "bench": lambda: bench_text.comparison_report(comparison()),
    "bench --scale": lambda: bench_text.scaling_report(sweep()),
    "lab": lambda: lab_text.results_table(lab_results()),
    "lab CLAIM": lambda: lab_text.explanation(lab_results()[0]),
    "lab --list": lambda: lab_text.claims_table(chosen(())),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("report", REPORTS)
def test_no_report_cuts_a_figure(report, width):
    whole, narrow = (shown(REPORTS[report](), each) for each in (1000, width))
    assert figures(whole)
    assert not figures(whole) - figures(narrow)
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= width


FIGURES = st.sampled_from(["0", "12.3 ms", "1,234,567", "0.70 ±2 %", "98,765/s with 5,000", "–"])


@settings(max_examples=40)
@given(
    st.lists(st.lists(FIGURES, min_size=1, max_size=12), min_size=1, max_size=4),
    st.integers(40, 200),
)
def test_a_sheet_has_every_cell_on_one_line(rows, width):
    sheet = Sheet("a title")
    sheet.column()
    for number in range(max(map(len, rows))):
        sheet.column(f"column {number}")
    for number, row in enumerate(rows):
        sheet.row(f"server {number}", *row)
    narrow = shown(sheet, width)
    assert max(map(len, narrow.splitlines())) <= width
    told = Counter(cell for line in narrow.splitlines() for cell in re.split(r"  +", line.strip()))
    assert not Counter(cell for row in rows for cell in row) - told
    assert {f"server {number}" for number in range(len(rows))} <= told.keys()


def test_what_fits_is_a_table():
    sheet = Sheet()
    for name in ("server", "messages/s"):
        sheet.column(name)
    sheet.row("selector", "123,456")
    assert [line.split() for line in shown(sheet, 40).splitlines()][1] == ["server", "messages/s"]


@pytest.mark.parametrize("width", [25, *WIDTHS])
def test_the_live_line_cuts_no_figure(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    with LoadProgress(console, Plan(Address("127.0.0.1", 7))) as progress:
        progress.tick(308_641, latencies())
    assert isinstance(console.file, io.StringIO)
    assert "1,234,564/s  p99 122 ms" in console.file.getvalue()


@pytest.mark.parametrize("width", [45, *WIDTHS])
def test_the_live_line_of_histories_cuts_no_figure(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True)
    given = {"seconds": None, "quiet": False}
    with progress(console, Asked(histories=1_000_000), given, "exploring") as tell:
        tell(Tally(histories=308_641, seconds=1_234_567.0), 250.0)
    assert isinstance(console.file, io.StringIO)
    assert "1,235/s, 1,234,567 s of virtual time" in console.file.getvalue()


def at_a_terminal(*arguments, width, **environment):
    """What a command of ours writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        process = subprocess.Popen(
            [sys.executable, "-m", "anysock", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=inherited | environment,
        )
    finally:
        os.close(theirs)
    said = bytearray()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        try:
            while chunk := terminal.read(65536):
                said += chunk
        except OSError:
            pass  # EIO: nobody has its other end any more
    assert process.wait(PATIENCE) == 0
    return said.decode()


DUMB, COLOURLESS = {"TERM": "dumb"}, {"TERM": "xterm", "NO_COLOR": "1"}


@pytest.mark.parametrize(
    ("command", "width", "environment"),
    [
        ("engines", 60, DUMB),
        ("engines", 200, COLOURLESS),
        ("lab --list", 40, COLOURLESS),
        ("load", 40, DUMB),
        ("load", 80, COLOURLESS),
    ],
)
def test_a_command_writes_no_longer_lines_than_its_terminal_has(
    command, width, environment, start_server
):
    arguments = command.split()
    if command == "load":
        arguments += [f":{start_server().port}", "-c", "2", "--messages", "100"]
    told = at_a_terminal(*arguments, width=width, **environment)
    assert not re.search(r"\x1b\[[\d;]*3[0-7]", told)
    lines = re.sub(r"\x1b\[[\d;]*m", "", told).splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in told


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_unit_is_told_in_every_encoding(encoding, start_server):
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "anysock",
            "load",
            f":{start_server().port}",
            "-c",
            "1",
            "--messages",
            "2",
        ],
        capture_output=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
    ).stdout.decode(encoding)
    unit = "us" if encoding == "ascii" else "µs"
    assert re.search(rf" {unit} a message| [\d.]+ {unit}\b", told)
    assert "\n- too few for that percentile" in told  # where elsewhere is a dash of its own


@pytest.mark.parametrize("command", ["engines", "lab --list"])
def test_a_pipe_gets_whole_tables_whatever_columns_says(command):
    told = prepared.run(
        [sys.executable, "-m", "anysock", *command.split()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "COLUMNS": "20"},
    ).stdout
    assert "…" not in told
    assert "───" in told
