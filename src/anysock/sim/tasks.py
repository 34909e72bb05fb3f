"""Tasks on the hosts of a history, which can be waited for from any other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from anysock.engines.base import Engine, Event
from anysock.engines.current import current_engine
from anysock.engines.straight import straight
from anysock.errors import AnysockError, Cancelled
from anysock.sim.faces import AHost

T = TypeVar("T")


class Crashed(AnysockError):
    """The host on which it was to run has crashed."""


class HostTask(Generic[T]):
    """What runs on a host: `HostHandle.spawn` returns it.

    One that fails, and that nobody has joined by the end, makes the history fail.
    """

    def __init__(
        self, host: AHost, coro: Coroutine[Any, Any, T], name: str, *, background: bool = False
    ) -> None:
        self.host = host
        self.name = name
        #: Whether it goes on as long as there is somebody to serve: a server.
        self.background = background
        self.done = False
        #: What it raised, if it has.
        self.error: BaseException | None = None
        #: Whether somebody waits for it, or has.
        self.joined = False
        self._result: Any = None
        self._joiners: list[tuple[Engine, Event]] = []
        self._coro = coro
        #: The task of the loop that runs it.
        #:
        #: :meta private:
        self.task: Any = None
        if host.alive:
            self.task = host.engine.spawn_here(self._run(coro), name)
        else:
            coro.close()
            self.crashed()

    def __repr__(self) -> str:
        return f"<HostTask {self.name!r} on {self.host.name}{', done' if self.done else ''}>"

    @property
    def cancelling(self) -> bool:
        """Whether its end was asked for."""
        return self.task is not None and bool(self.task.cancelling)

    def cancel(self) -> None:
        """Raise a cancellation at its next await, once."""
        if not self.done:
            self.host.call(self.task.cancel)

    async def join(self) -> T:
        """Wait until it has ended; return its result, or raise what it raised: `Cancelled` if it
        was cancelled, `Crashed` if its host has crashed meanwhile."""
        self.joined = True
        await self.ended()
        return self.result()

    def result(self) -> T:
        """The result of a task that is done; what it raised is raised."""
        self.joined = True
        if self.error is not None:
            raise self.error
        return self._result  # type: ignore[no-any-return]

    async def ended(self) -> None:
        """Wait until it has ended, however that is."""
        if not self.done:
            engine = current_engine()
            event = engine.event()
            self._joiners.append((engine, event))
            await event.wait()

    async def _run(self, coro: Coroutine[Any, Any, T]) -> None:
        try:
            self._end(await straight(self.task, coro), None)
        except GeneratorExit:
            raise  # the history is over
        except Cancelled as error:
            self._end(None, error)
        except Exception as error:  # noqa: BLE001
            self._end(None, error)
        except BaseException as error:
            self._end(None, error)
            raise

    def _end(self, result: Any, error: BaseException | None) -> None:
        self.done, self._result, self.error = True, result, error
        if isinstance(error, Exception):
            world, name = self.host.world, f"task {self.name!r}"
            world.failed(self.host.name, name, error, lambda: not self.joined)
        for engine, event in self._joiners:
            engine.call_from_thread(event.set)
        self._joiners.clear()

    def close(self) -> None:
        """The history is over.

        :meta private:
        """
        if inspect.getcoroutinestate(self._coro) == inspect.CORO_CREATED:
            self._coro.close()  # it has not even begun

    def crashed(self) -> None:
        """Its host has crashed: it does not go on.

        :meta private:
        """
        if not self.done:
            self.joined = True  # that is no failure of its own
            self._end(None, Crashed(f"the host {self.host.name!r} has crashed"))


def tell_failures(kernel: Any, failed: Callable[[str, Exception], object]) -> None:
    """From now on, call `failed` with the name of each task of a loop that fails and that nobody is
    joining, and with what it has raised; in place of the log."""
    end = kernel._end

    def ended(task: Any, how: BaseException) -> None:
        if (
            isinstance(how, Exception)
            and not isinstance(how, StopIteration)
            and not (task.owned or task.joiners)
        ):
            task.owned = True
            failed(task.name, how)
        end(task, how)

    kernel._end = ended
