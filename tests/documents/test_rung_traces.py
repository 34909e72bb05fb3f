"""The recordings of the ladder's programs: each is a trace, shows what its rung is about, and
stands in the rung's page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from anysock.traces.format import Line, read
from tests.harness import PATIENCE
from tests.io_uring import needs_io_uring

ROOT = Path(__file__).parents[2]
LADDER = ROOT / "examples" / "ladder"
PROGRAMS = {path.stem: path for path in sorted(LADDER.glob("s*.py"))}
PROGRAMS["s04_threads"] = LADDER / "answers" / "s04_threads.py"
KEPT = ROOT / "docs" / "_static" / "traces" / "rungs"


class Recorded:
    """A recording, with questions to it."""

    def __init__(self, path: Path) -> None:
        self.head, self.events = read(path)

    def of(self, kind: str, **fields: object) -> list[Line]:
        """The events of a kind that have these fields."""
        return [
            event for event in self.events if event["e"] == kind and fields.items() <= event.items()
        ]

    def when(self, who: str, what: str) -> int:
        """When a client tells that for the first time."""
        return int(self.of("mark", host=who, what=what)[0]["t"])

    def printed(self, what: str = "prints") -> list[str]:
        return [event["text"] for event in self.of("mark", what=what)]

    def steps(self, name: str) -> list[Line]:
        """Those of the task, or thread, of that name."""
        [task] = self.of("task", name=name)
        return self.of("step", task=task["task"])

    def vain(self) -> int:
        return sum(step.get("vain", 0) for step in self.of("step"))

    def refused(self) -> list[str]:
        return [mark["host"] for mark in self.of("mark", what="is refused")]


def s01_accept(told: Recorded) -> None:
    assert [event["conn"] for event in told.of("accept")] == ["Ann"]
    assert len(told.of("close")) == 1


def s02_read_a_line(told: Recorded) -> None:
    got = [step["got"] for step in told.steps("program") if step.get("got")]
    assert sum(got) == len(b"hello\r\n")
    assert set(got) == {1, 2}


def s03_answer(told: Recorded) -> None:
    [ended] = told.of("mark", what="shuts down")
    [closed] = told.of("close")
    assert ended["t"] < told.when("Cleo", "sees the end") < closed["t"]
    assert told.steps("program")[-2]["wait"] == "read"


def s04_blocking(told: Recorded) -> None:
    [queued], [accepted] = told.of("queued", conn="Bob"), told.of("accept", conn="Bob")
    assert queued["t"] < told.when("Ann", "leaves") < accepted["t"]
    assert told.when("Bob", "is answered") < told.when("Cleo", "is answered")
    assert told.vain() == 0


def s04_blocking_naive(told: Recorded) -> None:
    left = told.when("Ann", "leaves")
    assert told.when("Bob", "gives up") > left
    assert told.when("Cleo", "gives up") > left
    after = [step for step in told.steps("program") if step["t"] > left]
    assert {step.get("wait") for step in after} == {"ready", None}  # it sleeps no more
    assert sum(step.get("vain", 0) for step in after) > 100


def s05_nonblocking_accept(told: Recorded) -> None:
    [step] = told.steps("program")
    assert (step["vain"], step["end"]) == (1, "returned")


def s06_nonblocking_recv(told: Recorded) -> None:
    waited, asked = told.steps("program")
    assert waited["wait"] == "read"
    assert (asked["vain"], asked["end"]) == (1, "returned")


def s06_nonblocking_naive(told: Recorded) -> None:
    [step] = told.steps("program")
    assert (step["vain"], step["end"]) == (1, "failed")
    assert step["error"].startswith("BlockingIOError")


def nobody_waits_for_ann(told: Recorded) -> None:
    for who in ("Bob", "Cleo"):
        assert told.when(who, "is answered") < told.when("Ann", "leaves")
    assert len(told.of("mark", host="Bob", what="is answered")) == 2


def s07_polling(told: Recorded) -> None:
    nobody_waits_for_ann(told)
    assert {step.get("wait") for step in told.steps("program")[:-1]} == {"ready"}
    assert told.vain() > 300


def sleeps(told: Recorded) -> float:
    """The share of all time for which the loop is asleep."""
    slept = sum(int(turn["slept"]) for turn in told.of("turn"))
    return slept / int(told.events[-1]["t"])


def s04_threads(told: Recorded) -> None:
    nobody_waits_for_ann(told)
    for number, who in enumerate(("Ann", "Bob", "Cleo"), 1):
        steps = told.steps(f"Thread-{number} (serve_one)")
        assert told.of("serves", task=steps[0]["task"], conn=who)
        assert {step.get("wait") for step in steps[:-1]} <= {"read", "write"}
        assert steps[-1]["end"] == "returned"
    assert {step.get("wait") for step in told.steps("program")} == {"read", None}
    assert told.vain() == 0


def s08_selectors(told: Recorded) -> None:
    nobody_waits_for_ann(told)
    assert {step.get("wait") for step in told.steps("program")[:-1]} <= {"poll", "ready"}
    assert sleeps(told) > 0.4
    [ann] = told.of("open", conn="Ann")
    asked = [event["wants"] for event in told.of("interest", fd=ann["fd"])]
    assert asked == ["r", ""]


def tasks_for_each(told: Recorded, name: str) -> None:
    nobody_waits_for_ann(told)
    assert sleeps(told) > 0.4
    for who, size in (("Ann", 0), ("Bob", 14), ("Cleo", 9)):
        steps = told.steps(f"{who}: {name}")
        assert steps[-1]["end"] == "returned"
        assert sum(step.get("got", 0) for step in steps) == size
        assert sum(step.get("sent", 0) for step in steps) == size


def s09_event_loop(told: Recorded) -> None:
    tasks_for_each(told, "echo")
    assert {step["wait"] for step in told.steps("tell_the_time")} == {"sleep"}
    assert {step.get("wait") for step in told.steps("Bob: echo")} == {"read", "write", None}
    assert told.vain() == 0
    [bob] = told.of("task", name="Bob: echo")
    assert len(told.of("wake", task=bob["task"])) >= 4


def s10_asyncio(told: Recorded) -> None:
    tasks_for_each(told, "echo")
    [main] = told.of("task", name="main")
    assert {task["by"] for task in told.of("task")[1:]} == {main["task"]}
    assert told.vain() >= 3  # each receive of a silent client is tried


def s11_listener_coroutine(told: Recorded) -> None:
    tasks_for_each(told, "echo")
    [listen] = told.of("task", name="listen")
    assert {task["by"] for task in told.of("task")[2:]} == {listen["task"]}
    assert told.steps("main")[0]["wait"] == "event"


def s12_failing_handler(told: Recorded) -> None:
    [complained] = told.of("mark", what="complains")
    assert complained["text"].endswith("RuntimeError: boom")
    [stopped] = told.of("mark", what="Ctrl-C")
    assert complained["t"] < stopped["t"]
    assert told.when("Bob", "sees the end") < stopped["t"]
    assert told.of("close", conn="Bob")
    assert told.of("mark", host="Cleo", what="is answered")


def s12_failing_handler_naive(told: Recorded) -> None:
    failed = told.steps("Bob: echo")[-1]
    assert (failed["end"], failed["error"]) == ("failed", "RuntimeError: boom")
    assert told.when("Bob", "gives up") > failed["t"]
    assert not told.of("close", conn="Bob")
    [stopped], [complained] = told.of("mark", what="Ctrl-C"), told.of("mark", what="complains")
    assert stopped["t"] < complained["t"]
    assert complained["text"] == "Task exception was never retrieved … RuntimeError: boom"


def s13_tracked_tasks(told: Recorded) -> None:
    counts = [text for text in told.printed() if text.endswith("clients")]
    assert (len(counts), counts[0], counts[-1]) == (6, "1 clients", "0 clients")
    [complained] = told.of("mark", what="complains")
    [stopped] = told.of("mark", what="Ctrl-C")
    assert complained["t"] < stopped["t"]
    assert told.steps("Bob: echo")[-1]["end"] == "failed"
    assert told.steps("Ann: echo")[-1]["end"] == "cancelled"
    assert told.when("Ann", "sees the end") > stopped["t"]


def s15_io_uring(told: Recorded) -> None:
    assert told.vain() == 0
    assert "2 operations are in flight: they are cancelled" in told.printed()
    assert told.steps("Ann: echo")[-1]["end"] == "cancelled"
    assert told.of("close", conn="Ann", reason="done")
    assert sum(step.get("got", 0) for step in told.steps("Bob: echo")) == 14
    assert sum(step.get("sent", 0) for step in told.steps("Cleo: echo")) == 9
    assert sleeps(told) > 0.4
    [stopped] = told.of("mark", what="Ctrl-C")
    assert told.when("Ann", "sees the end") > stopped["t"]


# Whom a program does not wait for.
REFUSED = {
    "s01_accept": ["Bob", "Cleo"],
    "s05_nonblocking_accept": ["Ann", "Bob", "Cleo"],
    "s06_nonblocking_naive": ["Ann", "Bob", "Cleo"],
    "s06_nonblocking_recv": ["Bob", "Cleo"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_recording_shows_what_its_rung_is_about(name):
    path = KEPT / f"{name}.jsonl"
    assert path.stat().st_size < 10_000
    told = Recorded(path)
    assert told.events[-1]["why"] == "over"
    assert told.refused() == REFUSED.get(name, [])
    globals()[name](told)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_recorded_as_it_is(name, tmp_path):
    if name.startswith("s15"):
        needs_io_uring()
    path = tmp_path / "told.jsonl"
    recorder = ROOT / "examples" / "traces" / "rung"
    done = subprocess.run(
        [sys.executable, str(recorder), str(PROGRAMS[name]), str(path)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = Recorded(path)
    globals()[name](told)
    # What it says it says as ever.
    assert "\n".join(told.printed()) == done.stdout.rstrip()


def test_each_recording_stands_in_its_page_and_a_sentence_before_it():
    shown = []
    for page in sorted((ROOT / "docs" / "tutorial").glob("s[0-9]*.md")):
        text = page.read_text()
        for name in re.findall(r"^```{trace} rungs/(\w+)\n```$", text, re.MULTILINE):
            assert name.startswith(page.stem)
            assert re.search(rf"[.:)]\n\n```{{trace}} rungs/{name}\n", text)
            shown.append(name)
    assert sorted(shown) == sorted(PROGRAMS)
