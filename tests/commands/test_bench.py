"""``anysock bench``: a small comparison as a process; its file, its page, its interruption."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from anysock.bench.comparison import Comparison
from anysock.bench.generator.latencies import Latencies, Samples
from anysock.bench.reports.pages import bench_page, scale_page
from anysock.bench.reports.text import comparison_report
from anysock.bench.results import Measurement, Results, Settings, Work
from anysock.bench.scale import Scaling
from anysock.bench.servers import Server, all_servers, running
from anysock.bench.work.kinds import OTHER_LOOPS
from anysock.errors import StartError, UsageError
from tests import prepared
from tests.commands.running import refused
from tests.harness import PATIENCE, exchange, wait_until

BENCH = [sys.executable, "-m", "anysock", "bench"]
SMALL = ("--duration", "200ms", "--warmup", "50ms", "--generator", "python", "-s", "64", "-c", "2")
SERVERS = ("--baseline", "anysock selector", "--server", "asyncio streams")
MACHINE = {"processor": "a", "cores": 2, "system": "b", "versions": {"anysock": "0"}}


def bench(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = prepared.run(
        [*BENCH, *arguments], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_comparison(tmp_path):
    file, page = tmp_path / "bench.json", tmp_path / "bench.html"
    files = ("--json", str(file), "--html", str(page))
    done = bench(*SMALL, *SERVERS, "--rounds", "2", "--idle", "60", *files)
    assert "2 × 64B" in done.stdout
    for name in ("anysock selector", "asyncio streams"):
        assert name in done.stdout
    report = json.loads(file.read_text())
    assert report["complete"]
    assert len(report["measurements"]) == 4
    assert set(report["idle"]) == {"anysock selector", "asyncio streams"}
    row = report["tables"]["2 × 64B"]["asyncio streams"]
    assert row["ratio"]["count"] == 2
    assert row["ratio"]["low"] is None  # two rounds tell no interval
    assert row["cpu"] > 0
    assert row["echo"]["count"] > 0
    assert "I/O models and servers, compared" in page.read_text()


def test_interrupted_it_keeps_what_it_has_and_resumes(tmp_path):
    file = tmp_path / "bench.json"
    options = [*SMALL, *SERVERS, "--rounds", "3", "--idle", "0", "--json", str(file)]
    process = prepared.Popen(
        [*BENCH, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Six processes that import start one after the other, at the pace of a busy machine.
    wait_until(
        lambda: file.exists() and len(measured(file)) >= 2, "two measurements are kept", seconds=60
    )
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT, out + error
    assert "interrupted" in out
    assert "Traceback" not in error
    before = measured(file)
    assert 2 <= len(before) < 6
    bench(*options, "--resume")
    assert json.loads(file.read_text())["missing"] == {}
    after = measured(file)
    assert after[: len(before)] == before
    assert sorted((m["server"], m["round"]) for m in after) == [
        (name, number) for name in ("anysock selector", "asyncio streams") for number in range(3)
    ]


@pytest.mark.parametrize(
    "command",
    [["bench", *SMALL, *SERVERS, "--idle", "0"], ["lab", "polling-burns-a-core"]],
    ids=["bench", "lab"],
)
def test_a_sigterm_leaves_nobody_behind(tmp_path, command):
    def those_started() -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and (folder / "cwd").readlink() == tmp_path:
                    found.append((folder / "cmdline").read_text())
        return found

    process = prepared.Popen(
        [sys.executable, "-m", "anysock", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: "\0serve\0" in "".join(those_started()), "it has started a server")
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in error
    # (A compiler's own children end when they have done their work.)
    wait_until(lambda: not those_started(), "nobody is left")


def measured(file: Path) -> Any:
    return json.loads(file.read_text())["measurements"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--server", "nginx"],
            "no such server: nginx; there are c-epoll, c-uring, anysock blocking",
        ),
        (["--resume"], "needs the --json FILE"),
        (["--resume", "--json", "/dev/null"], "is not a file that `anysock bench --json` wrote"),
        (["-c", "1,x"], "expected a whole number, not 'x'"),
        (["--baseline", "nobody"], "no such server: nobody"),
        (["--work", "lines", "--server", "c-epoll"], "no such server: c-epoll"),
        (["--work", "lines", "--churn"], "--churn is for --work echo, not lines"),
        (["--work", "redis", "--generator", "c"], "redis-benchmark drives it"),
        (["--work", "http", "-s", "64"], "--size is not for --work http"),
        (["--work", "http", "--depth", "16"], "--depth is not for --work http"),
        (["--work", "lines", "--scale"], "--scale is for --work echo, not lines"),
    ],
)
def test_bad_usage(arguments, says):
    assert says in refused("bench", *arguments)


# -- without processes ----------------------------------------------------------------------------

WORK = Work(50, 64)


def measurement(server, number, rate, work=WORK, took=0.001):
    samples = Samples()
    for share in (0.5, 1.0, 1.5):
        samples.add(took * share)
    echo = Latencies.of(samples.take()).encode()
    return Measurement(work.name, server, number, rate, 1 / rate, 0.4 / rate, 0.6 / rate, 0.5, echo)


def results(rates, works=(WORK,)):
    """Of two servers, `rates` by round."""
    found = Results(Settings(works, ("base", "other"), "base"), MACHINE)
    for number, (base, other) in enumerate(rates):
        found.measurements.append(measurement("base", number, base))
        found.measurements.append(measurement("other", number, other))
    return found


def test_ratios_are_of_the_same_round():
    found = results([(100, 50), (200, 100), (50, 25)])
    assert found.ratios(WORK, "other") == [0.5, 0.5, 0.5]
    [_, row] = found.rows(WORK)
    assert row.ratio is not None
    assert row.ratio.median == 0.5
    assert row.cpu_ratio == 2.0


def test_it_is_enough_when_the_interval_is_narrow():
    narrow = [(100, 50 + number % 2) for number in range(6)]
    assert results(narrow).enough(WORK, "other")
    assert not results(narrow[:5]).enough(WORK, "other")
    wide = [(100, 50 + 10 * (number % 2)) for number in range(6)]
    assert not results(wide).enough(WORK, "other")


def test_what_is_saved_can_be_read(tmp_path):
    found = results([(100, 50)])
    found.idle["base"] = {"bytes": 5.0, "cpu": 0.0}
    found.save(tmp_path / "file")
    assert Results.read(tmp_path / "file") == found
    with pytest.raises(UsageError, match="can't read"):
        Results.read(tmp_path / "other")


def test_only_what_is_not_known_well_enough_is_measured_again():
    """Six even rounds are there; a third server has none, and the base line goes with it."""
    found = results([(100, 50)] * 6)
    found.settings = Settings((WORK,), ("base", "other", "third"), "base", most_rounds=7, idle=0)
    measured = []

    class Fake(Comparison):
        def _measure(self, server, work):
            measured.append(server.name)
            raise StartError("not here")

    servers = [Server(name, []) for name in found.settings.servers]
    found.settings = Settings(
        (WORK,), ("base", "other", "third"), "base", most_rounds=7, idle=0, generator="python"
    )
    assert Fake(found, servers, None).run()
    assert measured == ["third"]
    assert found.missing == {"third": "not here"}


@pytest.fixture
def loops(tmp_path, monkeypatch):
    """Of the loops of others two are installed (asyncio's own, in truth), each with the face that
    such packages have; the path of the other programs has them, too."""
    (tmp_path / "rloop.py").write_text("from asyncio import new_event_loop\n")
    (tmp_path / "talyn.py").write_text("from asyncio import SelectorEventLoop as Loop\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # Whatever is installed here beside them.
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: importlib.machinery.PathFinder.find_spec(
            name, [str(tmp_path)] if name in OTHER_LOOPS else None
        ),
    )
    return {server.name: server for server in all_servers(None)}


@pytest.mark.parametrize("name", ["rloop", "talyn"])
def test_loops_of_others_echo_where_they_are_installed(name, loops):
    server = loops[f"{name} Protocol"]
    assert server.why_not is None
    with running(server) as (_, port):
        data = os.urandom(3_000_000)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            assert exchange(client, data) == data


def test_loops_that_are_not_installed_are_left_out_with_one_line(loops):
    found = results([(100, 50)])
    names = [f"{name} Protocol" for name in OTHER_LOOPS]
    found.missing = {name: why_not for name in names if (why_not := loops[name].why_not)}
    assert list(found.missing) == names[2:]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(comparison_report(found))
    told = [line for line in console.export_text().splitlines() if "not measured" in line]
    all_of_them = "blazio Protocol, zloop Protocol, veloxloop Protocol, loopmini Protocol"
    why_not = "the package of the loop is not installed"
    assert [line.strip() for line in told] == [f"not measured: {all_of_them}: {why_not}"]


def test_work_that_a_server_can_not_do_is_not_asked_of_it():
    works = (WORK, Work(1, 64, socket_buffer=1 << 20))
    settings = Settings(works, ("base", "one", "plain"), "base", 1, 1, 1, "python", 0)
    found = Results(settings, MACHINE)
    asked = []

    class Fake(Comparison):
        def _measure(self, server, work):
            asked.append((server.name, work.connections))
            raise StartError("not here")

    Fake(
        found,
        [Server("base", [], []), Server("one", [], [], one_client=True), Server("plain", [])],
        None,
    ).run()
    assert ("one", 50) not in asked
    assert ("plain", 1) not in asked


def test_a_server_that_does_not_start_says_why():
    broken = Server("broken", [sys.executable, "-c", "raise SystemExit('no port for you')"])
    with pytest.raises(StartError, match="broken did not start: no port for you"), running(broken):
        pass


def sweep() -> Scaling:
    works = tuple(Work(count, 64) for count in (1, 10, 100, 1000))
    found = Results(Settings(works, ("base", "other"), "base"), MACHINE, complete=True)
    for work, base, other in zip(works, (1e3, 1e4, 1e5, 9e4), (1e3, 8e3, 6e3, 5e3), strict=True):
        found.measurements.append(measurement("base", 0, base, work))
        found.measurements.append(measurement("other", 0, other, work))
    samples = Samples()
    for number in range(1000):
        samples.add(0.2 if number < 980 else 2.0)
    unfair = found.measurements[-1]
    unfair.echo = Latencies.of(samples.take()).encode()
    return Scaling(found)


def test_where_it_bends_and_breaks():
    scaling = sweep()
    assert scaling.best("base") == (100, 1e5)
    assert scaling.bend("base") is None
    assert scaling.bend("other") == 100
    assert scaling.breaks("base") is None
    assert scaling.breaks("other") == 1000
    assert [row[0] for row in scaling.table()] == ["base", "other"]


# -- the pages, in a browser ----------------------------------------------------------------------


def dumped(page: Path, *, width: int) -> str:
    """The document as a browser has it once its programs have run, without a network."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        assert not os.environ.get("CI"), "chromium is not installed"
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000"),
            *(f"--user-data-dir={page.parent / 'profile'}", f"--window-size={width},2000"),
            *("--enable-logging=stderr", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "CONSOLE" not in done.stderr, done.stderr  # errors of the page
    return done.stdout


@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_draws_every_figure(tmp_path, width):
    found = results([(100, 50 + number % 2) for number in range(6)])
    samples = Samples()
    for number in range(5000):
        samples.add(0.001 * (1 + number % 7))
    enough = Latencies.of(samples.take()).encode()
    for each in found.measurements:
        each.echo = enough
    found.idle = {"base": {"bytes": 100.0, "cpu": 0.0}, "other": {"bytes": 5000.0, "cpu": 1.0}}
    found.missing["third"] = "<not> installed"
    page = tmp_path / "bench.html"
    page.write_text(bench_page(found), encoding="utf-8")
    document = dumped(page, width=width)
    # Throughput, CPU, latency, memory: a bar for each server.
    assert document.count('class="bars"') == 4
    assert document.count('class="bar"') == 8
    assert document.count('class="range"') >= 2  # the intervals of the ratios
    assert page.stat().st_size < 500_000
    assert "&lt;not&gt; installed" in document
    assert "0.50 to 0.51" in document
    assert "http://" not in page.read_text().partition("</script>")[2]


def test_a_browser_draws_a_sweep(tmp_path):
    page = tmp_path / "scale.html"
    page.write_text(scale_page(sweep()), encoding="utf-8")
    document = dumped(page, width=1200)
    assert document.count("<svg") == 2
    assert document.count('<path class="peer"') == 3  # of one, there were too few answers
    assert page.stat().st_size < 500_000
    assert "p99 breaks at" in document
