"""The format of traces: what is written is read again, what is not one is refused with its line."""

from __future__ import annotations

import gc
import itertools
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anysock
from anysock.engines import make_engine
from anysock.engines.current import current_engine
from anysock.errors import StartError, UsageError
from anysock.loop.observers import Observer
from anysock.machine import compiled
from anysock.traces.convert import trace_events
from anysock.traces.format import ENDS, KINDS, VERSION, WAITS, head_of, parse, read
from anysock.traces.page import trace_page
from anysock.traces.writer import TraceWriter

OURS = ["selector", "polling"]

HEAD = head_of("code", "selector", "a title", began=None, version="1")

_VALUES = {
    "whole": st.integers(0, 2**53),
    "time": st.integers(0, 2**53),
    "text": st.text(max_size=20),
}


@st.composite
def lines(draw):
    """Any event that the format has."""
    name = draw(st.sampled_from(sorted(KINDS)))
    line = {"t": draw(st.integers(0, 2**53)), "e": name}
    for field, spec in KINDS[name].fields.items():
        if spec.needed or draw(st.booleans()):
            line[field] = draw(_VALUES[spec.holds])
    return line


@given(events=st.lists(lines(), max_size=20))
def test_what_is_written_is_read_again_in_the_order_of_time(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "t.jsonl"
    writer = TraceWriter(path)
    writer.line(HEAD)
    for event in events:
        fields = dict(event)
        writer.event(fields.pop("t"), fields.pop("e"), **fields)
    writer.close(2**54)
    head, found = read(path)
    assert head == HEAD
    assert found[-1] == {"t": 2**54, "e": "end", "why": "over"}
    assert found[:-1] == sorted(events, key=lambda event: event["t"])


@given(events=st.lists(lines(), max_size=20))
def test_any_trace_can_be_converted_and_shown(events):
    events.sort(key=lambda event: event["t"])
    found = trace_events(HEAD, events)
    assert json.loads(json.dumps(found)) == found
    assert all({"ph", "pid", "tid", "name"} <= event.keys() for event in found["traceEvents"])
    page = trace_page(HEAD, events)
    embedded = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(embedded) == {"head": HEAD, "events": events}


@given(line=lines(), data=st.data())
def test_a_field_of_another_kind_is_refused_by_its_line(line, data):
    fields = KINDS[line["e"]].fields
    name = data.draw(st.sampled_from(["t", *(each for each in fields if fields[each].needed)]))
    line[name] = data.draw(st.sampled_from([None, [], 1.5, True, {}]))
    with pytest.raises(UsageError, match=r"^x:2: "):
        list(parse([json.dumps(HEAD), json.dumps(line)], "x"))


def test_kinds_and_fields_of_later_versions_are_let_pass():
    line = {"t": 1, "e": "turn", "slept": 0, "events": 0, "more": [1]}
    texts = [json.dumps(each) for each in (HEAD, line, {"t": 2, "e": "new", "x": 1})]
    assert len(list(parse(texts, "x"))) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.jsonl: is empty"),
        ("{}", "no trace: its first line has no end"),
        ("{}\n", "no trace, as"),
        ("[]\n", "x.jsonl:1: not an object"),
        ("root:x:0\n", "x.jsonl:1: not a line of JSON"),
        ('{"anysock_trace": 7}\n', f"a trace of version 7, and this reads {VERSION}"),
        ('{"anysock_trace": 1, "of": 2}\n', "x.jsonl:1: of is to be a text, not 2"),
        (json.dumps(HEAD) + "\n" + "[" * 100_000 + "\n", "x.jsonl:2: not a line of JSON"),
    ],
)
def test_what_is_no_trace_is_one_line(text, said, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_text_or_not_there_is_one_line(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    for name, said in (("x", "no trace, but data"), ("y", "No such file"), (".", "directory")):
        with pytest.raises(UsageError, match=said):
            read(tmp_path / name)


def test_the_end_that_a_process_had_no_time_to_write_is_left_out(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(HEAD) + '\n{"t":1,"e":"end","why":"over"}\n{"t":2,"e":"tu')
    assert [event["t"] for event in read(path)[1]] == [1]


@pytest.mark.parametrize("size", ["4KiB", "64KiB"])
def test_a_file_has_its_size_at_most_and_says_that_it_is_full(size, tmp_path, caplog):
    async def main():
        for _ in range(2000):
            await anysock.sleep(0)

    path = tmp_path / "x.jsonl"
    with anysock.trace(path, size=size):
        anysock.run(main)
    limit = int(size[:-3]) * 1024
    assert limit * 0.9 < path.stat().st_size <= limit
    assert read(path)[1][-1]["why"] == "full"
    assert [size in record.getMessage() for record in caplog.records] == [True]


def test_once_it_is_full_nothing_is_observed_any_more(tmp_path):
    seen = []

    async def main():
        for _ in range(500):
            await anysock.sleep(0)
        engine: Any = current_engine()
        kernel = engine._kernel
        watched = engine.own_loop
        untouched = kernel.poller is watched._poller and kernel.turn is watched._turn
        seen.append((untouched, "wake" in vars(kernel)))

    with anysock.trace(tmp_path / "x.jsonl", size=4096):
        anysock.run(main)
    assert seen == [(True, False)]


@pytest.mark.parametrize("size", [0, 4095, "1KiB"])
def test_a_size_that_holds_nothing_is_refused(size, tmp_path):
    with pytest.raises(UsageError, match="at least 4096 bytes"), anysock.trace("x", size=size):
        pass


def test_a_file_that_can_not_be_written_is_a_start_error(tmp_path):
    with (
        pytest.raises(StartError, match=r"can't write the trace .*: No such file"),
        anysock.trace(tmp_path / "no" / "x"),
    ):
        pass


def test_a_block_in_which_nothing_runs_leaves_an_empty_trace(tmp_path):
    with anysock.trace(tmp_path / "x"):
        pass
    head, events = read(tmp_path / "x")
    assert head["engine"] == "none"
    assert [event["e"] for event in events] == ["end"]
    anysock.run(anysock.sleep, 0)  # is not traced any more


def test_two_traces_of_one_loop_are_refused_and_of_two_loops_are_not(tmp_path):
    async def main() -> None:
        with pytest.raises(UsageError, match="traced already"), anysock.trace(tmp_path / "b"):
            pass
        await anysock.sleep(0)

    with anysock.trace(tmp_path / "a"):
        anysock.run(main)
        with anysock.trace(tmp_path / "c"):
            anysock.run(anysock.sleep, 0)
    for name in ("a", "c"):
        events = read(tmp_path / name)[1]
        assert sum(event["e"] == "step" and "end" in event for event in events) == 1
        assert events[-1]["why"] == "over"


@pytest.mark.parametrize("engine", OURS)
def test_the_life_of_a_task_is_told(engine, tmp_path):
    """What a task does and waits for, who wakes it, its timers; and how it ends."""

    async def child(bell: anysock.Event) -> None:
        await bell.wait()
        await anysock.sleep(0.001)
        raise ValueError("oh")

    async def main() -> None:
        bell = anysock.Event()
        task = anysock.spawn(child(bell), name="child")
        await anysock.sleep(0)
        bell.set()
        with pytest.raises(ValueError, match="oh"):
            await task.join()

    with anysock.trace(tmp_path / "x", title="a title"):
        anysock.run(main, engine=engine)
    head, events = read(tmp_path / "x")
    assert (head["engine"], head["of"], head["title"]) == (engine, "code", "a title")
    names = {event["name"]: event["task"] for event in events if event["e"] == "task"}
    child_, main_ = names["child"], names["main"]
    mine = [event for event in events if event.get("task") == child_]
    assert [event["e"] for event in mine] == ["task", "step", "wake", "step", "wake", "step"]
    assert mine[0]["by"] == main_
    assert [event.get("wait") for event in mine if event["e"] == "step"] == ["event", "sleep", None]
    assert (mine[-1]["end"], mine[-1]["error"]) == ("failed", "ValueError: oh")
    assert [event.get("by") for event in mine if event["e"] == "wake"] == [main_, None]
    waits = [event["wait"] for event in events if event["e"] == "step" and "wait" in event]
    assert set(waits) <= set(WAITS)
    joined = next(event for event in events if event.get("wait") == "join")
    assert (joined["task"], joined["on"]) == (main_, child_)
    assert {event["end"] for event in events if "end" in event} <= set(ENDS)
    [timer] = [event for event in events if event["e"] == "timer"]
    assert timer["by"] == child_
    # It was set after the event before it, and before it was told, whatever lies between the two.
    before = events[events.index(timer) - 1]
    assert before["t"] - 1000 <= timer["due"] - 1e6 <= timer["t"] + 1000
    [ended] = [event for event in events if event["e"] == "timer_end"]
    assert (ended["timer"], ended["how"]) == (timer["timer"], "fired")
    assert all(a["t"] <= b["t"] for a, b in itertools.pairwise(events))


def test_what_lives_already_is_told_at_the_beginning(tmp_path):
    async def waits(bell: anysock.Event) -> None:
        await bell.wait()

    async def main() -> None:
        bell = anysock.Event()
        anysock.spawn(waits(bell), name="older")
        await anysock.sleep(0)
        with anysock.trace(tmp_path / "x"):
            bell.set()
            await anysock.sleep(0)

    anysock.run(main)
    _, events = read(tmp_path / "x")
    [older] = [event for event in events if event.get("name") == "older"]
    steps = [event for event in events if event["e"] == "step" and event["task"] == older["task"]]
    assert [(step["ran"] == 0, step.get("wait"), step.get("end")) for step in steps] == [
        (True, "event", None),
        (False, None, "returned"),
    ]
    assert any(event["e"] == "interest" and event["wants"] == "r" for event in events)


@pytest.mark.parametrize("name", ["selector", "polling"])
def test_timers_that_are_set_already_are_told_with_when_they_are_due(name, tmp_path):
    engine: Any = make_engine(name)

    async def main() -> None:
        soon = anysock.spawn(anysock.sleep(0.2), name="soon")
        late = anysock.spawn(anysock.sleep(60), name="late")
        await anysock.sleep(0.1)
        whens.extend(timer.when for timer in engine.own_loop.kernel.timers.living())
        with anysock.trace(tmp_path / "x"):
            await soon.join()
            late.cancel()
            await anysock.sleep(0)

    whens: list[float] = []
    engine.run(main())
    _, events = read(tmp_path / "x")
    timers = [event for event in events if event["e"] == "timer"]
    first, second = (timer["due"] for timer in timers)
    assert second - first == pytest.approx((whens[1] - whens[0]) * 1e9, abs=2)
    ended = {event["timer"]: event for event in events if event["e"] == "timer_end"}
    assert [ended[timer["timer"]]["how"] for timer in timers] == ["fired", "cancelled"]
    assert ended[timers[0]["timer"]]["t"] >= first, "no timer is early"
    for task, due in (("soon", first), ("late", second)):
        [number] = [event["task"] for event in events if event.get("name") == task]
        untils = [e["until"] for e in events if e.get("task") == number and "until" in e]
        assert untils == [due]


def conversation(path: Path) -> list[tuple[Any, ...]]:
    """What is told of the steps of a server and a client that says the same again and again."""

    async def main() -> None:
        async with (
            anysock.Server("echo", bind="127.0.0.1:0") as server,
            await anysock.connect(server.addresses[0]) as client,
        ):
            for number in range(1, 40):
                await client.send_all(bytes(number))
                await client.recv_exactly(number)

    with anysock.trace(path):
        anysock.run(main, engine="selector")
    _, events = read(path)
    names = {event["task"]: event["name"].split()[0] for event in events if event["e"] == "task"}
    return [
        (names[event["task"]], *(event.get(key) for key in ("wait", "end", "got", "sent")))
        for event in events
        if event["e"] == "step"
    ]


@pytest.mark.skipif(compiled.fast is None, reason=compiled.why_not)
def test_the_compiled_loop_tells_what_the_loop_in_python_does(tmp_path, monkeypatch):
    told = conversation(tmp_path / "compiled")
    monkeypatch.setattr(compiled, "fast", None)
    assert conversation(tmp_path / "pure") == told
    assert [each[3:] for each in told if each[0] == "client" and each[3]] == [
        (number, number) for number in range(1, 40)
    ]


@pytest.mark.skipif(compiled.fast is None, reason=compiled.why_not)
@pytest.mark.parametrize("engine", ["selector", "uring"])
def test_a_second_observer_is_told_as_well(tmp_path, engine):
    """The compiled loop tells one: with two, it is left, and goes on when one is gone."""

    class Counts(Observer):
        steps = 0

        def task_stepped(self, task: Any, seconds: float) -> None:
            self.steps += 1

    async def main() -> None:
        engine: Any = current_engine()
        turns = [engine._kernel.turn]
        counts = Counts()
        anysock.observe(counts)
        for _ in range(5):
            await anysock.sleep(0)
        turns.append(engine._kernel.turn)
        engine.own_loop.unobserve(counts)
        turns.append(engine._kernel.turn)
        assert counts.steps >= 5
        assert type(turns[0].__self__) is engine._kernel.compiled.Recorder
        assert turns == [turns[0], None, turns[0]]

    with anysock.trace(tmp_path / "x"):
        anysock.run(main, engine=engine)
    steps_told = [event for event in read(tmp_path / "x")[1] if event["e"] == "step"]
    assert len(steps_told) >= 7


@pytest.mark.skipif(compiled.fast is None, reason=compiled.why_not)
def test_the_recorder_bears_what_nobody_gives_it():
    assert compiled.fast is not None
    recorder_class = compiled.fast.Recorder
    for wrong in ((), (1.0,), ("x", print), (1.0, print, 2)):
        with pytest.raises(TypeError):
            recorder_class(*wrong)
    recorder = recorder_class(0.0, lambda: None)
    assert recorder.take() == ""
    for given_ in ((), (1, 2), (None, "x", 0.0), (None, 0, "x")):
        with pytest.raises(TypeError):
            recorder.turn(*given_)
    for none_of_ours in (int, type("A", (), {"observed": 1})):
        with pytest.raises((TypeError, AttributeError)):
            compiled.fast.record(none_of_ours, none_of_ours)

    # One that holds itself is collected.
    class Held:
        pass

    held: Any = Held()
    held.recorder = recorder_class(0.0, held)
    ref = weakref.ref(held)
    del held
    gc.collect()
    assert ref() is None


def test_what_raises_in_a_step_that_is_traced_is_raised_where_it_should(tmp_path):
    async def handler(connection: anysock.Connection) -> None:
        await connection.recv()
        raise SystemExit(3)

    async def main() -> bytes:
        async with (
            anysock.Server(handler, bind="127.0.0.1:0", access_log=False) as server,
            await anysock.connect(server.addresses[0]) as client,
        ):
            await anysock.sleep(0.01)
            await client.send_all(b"x")
            return await client.recv()

    with anysock.trace(tmp_path / "x"):
        assert anysock.run(main, engine="selector") == b""
    kinds = [event["e"] for event in read(tmp_path / "x")[1]]
    assert kinds.count("failed") == kinds.count("close") == 1


def test_the_page_is_small_without_its_data():
    assert len(trace_page(HEAD, [])) < 400_000


def test_the_models_were_recorded_as_the_page_says():
    """One client at a time is slowest; threads, which do not hold up each other, are fastest."""
    folder = Path(__file__).parents[2] / "docs" / "_static" / "traces" / "models"
    lasted = {path.stem: read(path)[1][-1]["t"] for path in folder.glob("*.jsonl")}
    assert set(lasted) == {"blocking", "threads", "polling", "selector", "uring", "asyncio"}
    assert max(lasted, key=lambda engine: lasted[engine]) == "blocking"
    assert min(lasted, key=lambda engine: lasted[engine]) == "threads"


def test_the_examples_are_traces():
    folder = Path(__file__).parents[2] / "docs" / "_static" / "traces"
    assert {path.stem for path in folder.glob("*.jsonl")} == {
        "blocking-step", "lost-wake-up", "slow-reader", "three-clients-selector",
    }  # fmt: skip
    for path in folder.glob("*.jsonl"):
        assert read(path)[1][-1] == {"t": read(path)[1][-1]["t"], "e": "end", "why": "over"}
