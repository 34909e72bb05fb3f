"""What is given wrongly to what is public: one line that says what is taken, at once, and nothing
is left behind (a coroutine that is never awaited, or a socket that is not closed, is a warning, and
fails the test)."""

from __future__ import annotations

import gc
import ssl
from typing import Any

import pytest

import anysock
from anysock.loop.observers import Observer
from anysock.options.serve import DEFAULTS, OPTIONAL, OPTIONS
from tests.harness import ENGINES

#: What is wrong on purpose is wrong for mypy, too.
wrongly: Any = anysock


async def main():
    return "result"


async def with_argument(argument):
    return argument


async def generator():
    yield 1


class Silent(anysock.Events):
    async def drained(self, aborted, seconds):  # type: ignore[override]
        pass


def refused(call, says, kind=TypeError):
    with pytest.raises(kind, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
    gc.collect()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: wrongly.run(main()), r"takes the function, not its call: run\(main, …\)"),
        (lambda: wrongly.run(main(), engine="threads"), "takes the function, not its call"),
        (lambda: wrongly.run(None), "takes an async function, not None"),
        (lambda: wrongly.run(lambda: 42), "<lambda> is none: it has returned 42"),
        (lambda: wrongly.run(generator), "generator is none: it has returned <async_gen"),
        (lambda: wrongly.run(main, 1), r"main\(\) takes 0 positional arguments but 1 was given"),
        (lambda: wrongly.run(with_argument), r"missing 1 required positional argument: 'argument'"),
        (lambda: wrongly.serve("echo", {"bind": ":0"}), "options= takes ServeOptions, or .*keyw"),
        (lambda: wrongly.Server("echo", {"bind": ":0"}), "options= takes ServeOptions"),
        (lambda: wrongly.Server("echo", events=anysock.Events), "events= takes an object of a cla"),
        (lambda: wrongly.serve("echo", events=print), "events= takes an object of a class"),
        (lambda: wrongly.serve("echo", events=Silent()), "Silent.drained is async, and"),
        (lambda: wrongly.Server("echo", wrongly.ServeOptions(), workers=2), "not both"),
        (lambda: wrongly.Server("echo", engin="x"), "unexpected keyword argument 'engin'"),
        (lambda: wrongly.Server("echo", lifespan=generator), "generator is no lifespan: @contextl"),
        (lambda: wrongly.Server("echo", lifespan=main), "main is no lifespan: it has no `yield`"),
        (lambda: wrongly.Server("echo", lifespan=main()), "it has been called already: give the f"),
        (lambda: wrongly.Server("echo", lifespan=lambda: 1), "it is called with the server and n"),
        (lambda: wrongly.serve("echo", lifespan=5), "5 is no lifespan: its type is int, which ca"),
        (lambda: wrongly.serve("echo", lifespan="a.b"), "no lifespan 'a.b': name it as package.m"),
        (lambda: wrongly.serve("echo", bind=8000), 'such as "127.0.0.1:8000", not 8000'),
        (lambda: wrongly.Server("echo", bind=("h", 8000)), r'such as "127.0.0.1:8000", not 8000|h'),
        (lambda: wrongly.Server("echo", bind=[("h", 8)]), r"such as \"h:8\", not \('h', 8\)"),
        (lambda: wrongly.Server("echo", bind=None), "expected an address as a text, .* not None"),
        (lambda: wrongly.Server("echo", bind=b"h:1"), "expected an address as a text, .* not b'h"),
    ],
)  # fmt: skip
def test_outside_of_an_engine(call, says):
    refused(call, says, (TypeError, anysock.UsageError))


@pytest.mark.parametrize("engine", ["warp", None, b"selector", ["selector"]], ids=repr)
def test_an_engine_that_is_none_is_refused_and_nothing_is_run(engine):
    refused(lambda: wrongly.run(main, engine=engine), "unknown engine", anysock.UsageError)
    refused(lambda: wrongly.Server("echo", engine=engine), "unknown engine", anysock.UsageError)


def test_outside_of_an_engine_a_coroutine_is_closed():
    refused(lambda: wrongly.spawn(main()), "no engine runs here", anysock.UsageError)


CALLS = [
    (lambda: wrongly.spawn(main), r"takes a coroutine, not <function main.*; call it: spawn\(main"),
    (lambda: wrongly.spawn(None), "takes a coroutine, not None"),
    (lambda: wrongly.spawn(generator()), "which has a `yield`"),
    (lambda: wrongly.spawn(main(), name=7), "takes a text as the task's name, not 7"),
    (lambda: wrongly.task_group().spawn(main), "takes a coroutine, not"),
    (lambda: wrongly.task_group().spawn(main(), name=7), "takes a text as the task's name"),
    (lambda: wrongly.sleep("1"), "takes a number of seconds, not '1'"),
    (lambda: wrongly.sleep(None), "takes a number of seconds, not None"),
    (lambda: wrongly.timeout("5s"), "takes a number of seconds, not '5s'"),
    (lambda: wrongly.move_on_after("5s"), "takes a number of seconds, not '5s'"),
    (lambda: wrongly.to_thread(None), "takes a function, not None"),
    (lambda: wrongly.to_thread(main), "takes a function that blocks, not an async one"),
    (lambda: wrongly.to_thread(main()), "takes a function that blocks, not an async one"),
    (lambda: wrongly.connect(("h", 1)), r"such as \"h:1\", not \('h', 1\)"),
    (lambda: wrongly.connect(("::1", 1, 0, 0)), r"such as \"\[::1\]:1\", not \('::1', 1, 0, 0\)"),
    (lambda: wrongly.connect(8000), 'such as "127.0.0.1:8000", not 8000'),
    (lambda: wrongly.connect(None), "as a text, such as .*, not None"),
    (lambda: wrongly.connect(b"h:1"), "as a text, such as .*, not b'h:1'"),
    (lambda: wrongly.connect("127.0.0.1:1", trying=3), "trying= takes a function, not 3"),
    (lambda: wrongly.connect("tls://h:1", tls=True), r"tls= takes an ssl\.SSLContext, not True"),
    (lambda: wrongly.Queue("10"), "whole number of items, not '10'"),
    (lambda: wrongly.Queue(None), "whole number of items, not None"),
    (lambda: wrongly.Queue(1.5), "whole number of items, not 1.5"),
]


def test_inside_of_an_engine(engine):
    async def each():
        for call, says in CALLS:
            with pytest.raises(anysock.WrongType, match=says) as caught:
                made = call()
                await made
            assert "\n" not in str(caught.value)

    wrongly.run(each, engine=engine)
    gc.collect()


def test_what_serves_inside_of_an_engine_is_a_server(engine):
    async def main():
        anysock.serve("echo", bind="127.0.0.1:0")

    refused(lambda: anysock.run(main, engine=engine), "async with anysock.Server", ValueError)


def test_values_that_make_no_sense(engine):
    nan = float("nan")

    async def each():
        for call in (wrongly.sleep, wrongly.timeout, wrongly.move_on_after):
            with pytest.raises(anysock.UsageError, match="not NaN"):
                await call(nan)
        with pytest.raises(ValueError, match="at least 1 item"):
            wrongly.Queue(0)
        # Whoever says whom to trust is not left with plain text.
        with pytest.raises(anysock.UsageError, match="tls= is for an address that begins with tls"):
            await wrongly.connect("127.0.0.1:1", tls=ssl.create_default_context())

    wrongly.run(each, engine=engine)


def test_for_ever_is_a_time_to_sleep(concurrent_engine):
    async def sleep_for_ever():
        for seconds in (float("inf"), 1e300):
            async with wrongly.move_on_after(seconds):
                async with wrongly.timeout(seconds):
                    await wrongly.sleep(seconds)

    async def forever():
        async with wrongly.task_group() as group:
            task = group.spawn(sleep_for_ever())
            await wrongly.sleep(0.01)
            assert not task.done
            group.cancel()
        return task.done

    assert wrongly.run(forever, engine=concurrent_engine)


@pytest.mark.parametrize("engine", ["selector", "polling"])
def test_what_observes_is_an_observer(engine):
    async def observe(observer):
        wrongly.observe(observer)

    for wrong in (None, object(), Observer):
        with pytest.raises(anysock.WrongType, match="takes an object of a class made"):
            wrongly.run(observe, wrong, engine=engine)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_refuses_what_it_is_not(name):
    for wrong in (object(), 1 + 2j, [object()], {"a": 1}, b"1", float("nan"), type):
        with pytest.raises(anysock.UsageError, match=f"^--{name.replace('_', '-')}: ") as caught:
            wrongly.ServeOptions(**{name: wrong})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OPTIONS)
def test_none_is_taken_where_it_means_something_and_nowhere_else(name):
    """None for an option that has a value would break the server later, when it is asked for."""
    if name in OPTIONAL:
        assert getattr(wrongly.ServeOptions(**{name: None}), name) is None
    else:
        with pytest.raises(anysock.UsageError, match=f"^--{name.replace('_', '-')}: .*None"):
            wrongly.ServeOptions(**{name: None})
    assert DEFAULTS[name] is not None or name in OPTIONAL


@pytest.mark.parametrize(
    "text", ["²", "٣", "1_000", "", "one", "0x10", "9" * 5000, "1.5", True, 2.7]
)
def test_a_whole_number_is_one_of_ascii_digits(text):
    for name in ("workers", "backlog", "max_connections", "seed"):
        with pytest.raises(anysock.UsageError, match="expected a whole number"):
            wrongly.ServeOptions(**{name: text})


@pytest.mark.parametrize("text", ["²", "٣", "1_000.5", "", "inf", "nan", "0x10", True], ids=repr)
def test_a_number_is_one_of_ascii_digits(text):
    for name in ("accept_rate", "udp_rate", "corrupt"):
        with pytest.raises(anysock.UsageError, match="expected a number"):
            wrongly.ServeOptions(**{name: text})


def test_what_is_sent_is_bytes(concurrent_engine):
    async def echo(connection):
        async for chunk in connection:
            await connection.send_all(chunk)

    async def talk():
        async with (
            wrongly.Server(echo, bind="127.0.0.1:0") as server,
            await wrongly.connect(server.addresses[0]) as connection,
        ):
            for wrong in ("text", None, 7, ["a"]):
                with pytest.raises(TypeError):
                    await connection.send_all(wrong)
            # It is as it was.
            await connection.send_all(b"bytes")
            return await connection.recv_exactly(5), connection.bytes_sent

    assert wrongly.run(talk, engine=concurrent_engine) == (b"bytes", 5)


@pytest.mark.parametrize("wrong", [7, None, b"file", ["file"]])
def test_a_trace_is_written_to_a_path(wrong):
    with pytest.raises(TypeError), wrongly.trace(wrong):
        pass


def test_every_public_function_is_looked_at():
    """Whoever adds one looks at what it does with what is wrong."""
    functions = {name for name in anysock.__all__ if name[0].islower()}
    assert functions == {
        "connect", "current_connection", "move_on_after", "now", "observe", "relay", "run", "serve",
        "shielded", "sleep", "spawn", "task_group", "timeout", "to_thread",
        "trace",
    }  # fmt: skip
    assert set(ENGINES)
