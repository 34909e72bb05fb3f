"""What needs the loop of another library, where that does not run: the error says which engine has
it, wherever it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback

import pytest
import trio

import anysock


async def sleep_of_asyncio():
    await asyncio.sleep(0.01)


async def turn_of_asyncio():
    await asyncio.sleep(0)


async def queue_of_asyncio():
    await asyncio.Queue().get()


async def event_of_asyncio():
    await asyncio.Event().wait()


async def loop_of_asyncio():
    asyncio.get_running_loop()


async def timeout_of_asyncio():
    async with asyncio.timeout(1):
        await anysock.sleep(0)


async def group_of_asyncio():
    async with asyncio.TaskGroup():
        pass


async def wait_for_of_asyncio():
    with contextlib.closing(sleep_of_asyncio()) as awaited:
        await asyncio.wait_for(awaited, 1)


async def thread_of_asyncio():
    await asyncio.to_thread(len, "")


async def executor_of_asyncio():
    await asyncio.get_running_loop().run_in_executor(None, len, "")


async def open_connection_of_asyncio():
    await asyncio.open_connection("127.0.0.1", 1)


async def sleep_of_trio():
    await trio.sleep(0.01)


async def turn_of_trio():
    await trio.lowlevel.checkpoint()


async def event_of_trio():
    await trio.Event().wait()


async def timeout_of_trio():
    with trio.move_on_after(1):
        await anysock.sleep(0)


async def nursery_of_trio():
    async with trio.open_nursery():
        pass


# The engines that run the loop of each; those that hints name.
ON_ASYNCIO = ("asyncio", "asyncio-sock", "uvloop")
NAMED = {"asyncio": ("asyncio", "uvloop"), "trio": ("trio",)}

USES = {
    use: (ON_ASYNCIO if "asyncio" in use.__name__ else ("trio",))
    for use in (
        sleep_of_asyncio,
        turn_of_asyncio,
        queue_of_asyncio,
        event_of_asyncio,
        loop_of_asyncio,
        timeout_of_asyncio,
        group_of_asyncio,
        wait_for_of_asyncio,
        thread_of_asyncio,
        executor_of_asyncio,
        open_connection_of_asyncio,
        sleep_of_trio,
        turn_of_trio,
        event_of_trio,
        timeout_of_trio,
        nursery_of_trio,
    )
}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_the_error_says_which_engine_has_it(engine, use):
    if engine in USES[use]:
        pytest.skip("there it runs")

    async def in_a_group():
        async with anysock.task_group() as group:
            group.spawn(use())

    for main in (use, in_a_group):
        with pytest.raises((RuntimeError, TypeError, AttributeError, ExceptionGroup)) as caught:
            anysock.run(main, engine=engine)
        told = "".join(traceback.format_exception(caught.value))
        for name in NAMED["asyncio" if USES[use] is ON_ASYNCIO else "trio"]:
            assert told.count(f'engine="{name}"') == 1, told
        assert f"--engine {NAMED['asyncio' if USES[use] is ON_ASYNCIO else 'trio'][0]})" in told
        assert "asyncio-sock" not in told


@pytest.mark.parametrize("engine", [*ON_ASYNCIO, "trio"])
def test_where_it_runs_nobody_is_told_anything(engine):
    lock = trio.Lock() if engine == "trio" else asyncio.Lock()

    async def misuse():
        lock.release()

    with pytest.raises(RuntimeError) as caught:
        anysock.run(misuse, engine=engine)
    assert not hasattr(caught.value, "__notes__")


def test_a_handler_that_uses_asyncio_is_told_of_in_the_log(start_server, tmp_path, engine):
    if engine in ON_ASYNCIO:
        pytest.skip("there it runs")
    (tmp_path / "mine.py").write_text(
        "import asyncio\nasync def handler(connection):\n    await asyncio.sleep(0.01)\n"
    )
    server = start_server("mine:handler", engine=engine, cwd=tmp_path)
    server.expected_errors += ["failed", "Traceback", "RuntimeError"]
    with server.connect() as client:
        assert client.recv(1) == b""
    server.wait_for(r'runs under engine="asyncio" or engine="uvloop" \(.*--engine asyncio\)')


def test_a_task_that_nobody_joins_is_told_of_in_the_log(engine, caplog):
    if engine in ON_ASYNCIO:
        pytest.skip("there it runs")

    async def main():
        task = anysock.spawn(sleep_of_asyncio())
        while not task.done:
            await anysock.sleep(0.001)

    with caplog.at_level(logging.ERROR, logger="anysock"):
        anysock.run(main, engine=engine)
    assert 'engine="asyncio"' in caplog.text
    caplog.clear()


def test_where_no_loop_runs_it_is_told_where_one_does():
    coro = anysock.sleep(0)
    with pytest.raises(anysock.UsageError, match=r"anysock.run\(\).*asyncio or trio"):
        coro.send(None)
