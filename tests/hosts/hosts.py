"""The programs that Anysock may run within: each starts its loop itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
import trio
import uvloop

Main = Callable[[], Awaitable[Any]]


def asyncio_run(main: Main) -> Any:
    return asyncio.run(_as_coroutine(main), debug=False)


def uvloop_run(main: Main) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
        return runner.run(_as_coroutine(main))


async def _as_coroutine(main: Main) -> Any:
    return await main()


def trio_run(main: Main) -> Any:
    return trio.run(main)


def trio_as_a_guest(main: Main) -> Any:
    """trio in a program of asyncio's: in its tasks, both loops run."""

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            main,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        return (await done).unwrap()

    return asyncio.run(host(), debug=False)


def anyio_on_asyncio(main: Main) -> Any:
    return anyio.run(main, backend="asyncio")


def anyio_on_trio(main: Main) -> Any:
    return anyio.run(main, backend="trio")


def anyio_on_uvloop(main: Main) -> Any:
    return anyio.run(main, backend="asyncio", backend_options={"use_uvloop": True})


#: By name: who runs the loop, the loop that it is, and the engine that is for it.
HOSTS: dict[str, tuple[Callable[[Main], Any], str, str]] = {
    "asyncio": (asyncio_run, "asyncio", "asyncio"),
    "uvloop": (uvloop_run, "asyncio", "uvloop"),
    "trio": (trio_run, "trio", "trio"),
    "trio as a guest": (trio_as_a_guest, "trio", "trio"),
    "anyio on asyncio": (anyio_on_asyncio, "asyncio", "asyncio"),
    "anyio on uvloop": (anyio_on_uvloop, "asyncio", "uvloop"),
    "anyio on trio": (anyio_on_trio, "trio", "trio"),
}


class Host:
    """One of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.run, self.loop, self.engine = HOSTS[name]

    @contextlib.contextmanager
    def scope(self) -> Iterator[Callable[[], object]]:
        """A block that its own means can cancel, by the function that is handed out."""
        if self.loop == "trio":
            with trio.CancelScope() as scope:
                yield scope.cancel
                pytest.fail("nothing was cancelled")
            assert scope.cancelled_caught
        elif self.name.startswith("anyio"):
            with anyio.CancelScope() as anyios:
                yield anyios.cancel
                pytest.fail("nothing was cancelled")
            assert anyios.cancelled_caught
        else:
            task = asyncio.current_task()
            assert task is not None
            with contextlib.suppress(asyncio.CancelledError):
                yield task.cancel
                pytest.fail("nothing was cancelled")
            task.uncancel()

    def tasks(self) -> list[str]:
        """The names of the tasks that live beside the calling one, the loop's own left out."""
        if self.loop == "asyncio":
            others = asyncio.all_tasks() - {asyncio.current_task()}
            return [task.get_name() for task in others]
        return [task.name for task in _below(trio.lowlevel.current_root_task())]


def _below(task: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    assert task is not None
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            if child is not trio.lowlevel.current_task() and "run_sync_soon" not in child.name:
                yield child
            yield from _below(child)
