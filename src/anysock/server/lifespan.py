"""What lives around the connections of a server: its lifespan, and the tasks that end with it."""

from __future__ import annotations

import inspect
import logging
import os
import threading
import traceback
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

from anysock.engines.base import Engine, Event, Scope, Task
from anysock.errors import LifespanFailed, StartError, UsageError, WrongType
from anysock.handlers import named
from anysock.hints import report_left
from anysock.streams.current import of_no_connection
from anysock.tasks import arguments
from anysock.telemetry.events import Events

T = TypeVar("T")

_log = logging.getLogger("anysock.server")

_WANTED = (
    "a lifespan is a function that is called with the server and returns an async context manager: "
    "an `async def lifespan(server)` with a `yield`, under @contextlib.asynccontextmanager"
)


def prepare(lifespan: Any, handler: Any) -> Callable[[Any], Any] | None:
    """The lifespan as the server calls it: `lifespan`, loaded if it is ``package.module:function``;
    if it is None, the attribute ``lifespan`` of `handler`, if it has one. Raises `WrongType` and
    `UsageError` for what can't be one."""
    if isinstance(lifespan, str):
        lifespan = named(lifespan, "lifespan")
    elif lifespan is None:
        lifespan = getattr(handler, "lifespan", None)
        if lifespan is None:
            return None
    name = getattr(lifespan, "__qualname__", None) or repr(lifespan)
    problem = ""
    if inspect.iscoroutine(lifespan):
        lifespan.close()
        problem = "it has been called already: give the function itself, without its ()"
    elif isinstance(lifespan, AbstractAsyncContextManager):
        problem = "it is entered, and not called: give the function that makes it, without its ()"
    elif inspect.isasyncgenfunction(lifespan) or inspect.isasyncgen(lifespan):
        problem = "@contextlib.asynccontextmanager is missing above it"
    elif inspect.iscoroutinefunction(lifespan):
        problem = "it has no `yield`"
    elif not callable(lifespan):
        problem = f"its type is {type(lifespan).__name__}, which can't be called"
    if problem:
        raise WrongType(f"{name} is no lifespan: {problem}; {_WANTED}")
    try:
        inspect.signature(lifespan).bind(None)
    except TypeError:
        raise WrongType(
            f"{name} is no lifespan: it is called with the server and nothing else; {_WANTED}"
        ) from None
    except ValueError:
        pass  # it has no signature
    return lifespan  # type: ignore[no-any-return]


class Lifetime:
    """The lifespan of a server, if it has one, and its background tasks.

    `begin` and `end` are called by one task: what a lifespan opens (a task group, a timeout) must
    be closed where it was opened.
    """

    def __init__(self, lifespan: Callable[[Any], Any] | None) -> None:
        #: What the lifespan has given.
        self.state: Any = None
        #: Whether there is a lifespan.
        self.wanted = lifespan is not None
        #: What is being waited for, in words for the log; empty: nothing.
        self.doing = ""
        self._lifespan = lifespan
        self._manager: AbstractAsyncContextManager[Any] | None = None
        # Open as long as the lifespan, since blocks end in the reverse order of their begin.
        self._scope: Scope | None = None
        self._given_up = False
        # For `threads`: a start that has ended is not cancelled.
        self._lock = threading.Lock()
        self._background = _Background()

    async def begin(self, engine: Engine, server: object, events: Events) -> None:
        """Run the lifespan to its ``yield``, unless `give_up` is called meanwhile.

        Raises `StartError` when it fails; a `StartError` or `UsageError` of its own, and what is no
        Exception, as it is.
        """
        self._background.open(engine)
        if self._lifespan is None:
            return
        self._scope = await engine.scope().__aenter__()
        if self._given_up:
            self._scope.cancel()
        self.doing = "the start of the lifespan"
        try:
            manager = self._lifespan(server)
            if not isinstance(manager, AbstractAsyncContextManager):
                raise WrongType(f"the lifespan has returned {manager!r}; {_WANTED}")
            self.state = await manager.__aenter__()
            with self._lock:
                self._manager = manager
            if self._given_up:
                # The start was told too late, and has ended well. It is raised here, if at all, and
                # not at an await of the server.
                await engine.sleep(0)
        except BaseException as error:
            if await self._close(engine, error):
                return  # given up
            if not isinstance(error, Exception) or isinstance(error, StartError | UsageError):
                raise
            events.lifespan_failed("start", error)
            raise StartError(self._in_words("failed at its start", error)) from error
        finally:
            self.doing = ""

    def give_up(self) -> None:
        """The server ends: a lifespan that still starts is cancelled."""
        self._given_up = True
        with self._lock:
            if self._scope is not None and self._manager is None:
                self._scope.cancel()

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None) -> Task[T]:
        """`Server.spawn`."""
        return self._background.spawn(coro, name)

    async def end(
        self, engine: Engine, seconds: float, error: BaseException | None, events: Events
    ) -> None:
        """End the background tasks, which have `seconds` for that, and the lifespan, which is told
        of `error`. Raises `LifespanFailed` when it fails."""
        try:
            await self._close(engine, error, seconds)
        except Exception as failure:
            events.lifespan_failed("end", failure)
            how = "failed at its end" if error is None else "failed"
            raise LifespanFailed(self._in_words(how, failure)) from failure

    async def _close(
        self, engine: Engine, error: BaseException | None, seconds: float = 1.0
    ) -> bool:
        """End what has begun, which is told of `error`. True if that was the end of a start that
        was given up. What is raised meanwhile, and is not `error`, is raised when all is closed."""
        manager, self._manager = self._manager, None
        scope, self._scope = self._scope, None
        problem = error
        try:
            await self._background.end(engine, seconds)
        except BaseException as raised:  # noqa: BLE001
            problem = raised
        if manager is not None:
            self.doing = "the end of the lifespan"
            try:
                await manager.__aexit__(*_parts(problem))
            except BaseException as raised:  # noqa: BLE001
                problem = raised
            self.doing = ""
        if scope is not None and await scope.__aexit__(*_parts(problem)):
            return True
        if problem is not None and problem is not error:
            raise problem
        return False

    def _in_words(self, how: str, error: BaseException) -> str:
        """One line: what has happened, and where in the user's code."""
        code = getattr(inspect.unwrap(self._lifespan), "__code__", None) if self._lifespan else None
        frames = [
            (frame.f_code.co_filename, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
        ]
        own = [each for each in frames if code is not None and each[0] == code.co_filename]
        file, line = (own or frames or [("", 0)])[-1]
        where = f" ({os.path.basename(file)}:{line})" if file else ""
        return f"the lifespan {how}: {type(error).__name__}: {error}{where}"


def _parts(
    error: BaseException | None,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None]:
    return (None, None, None) if error is None else (type(error), error, error.__traceback__)


class _Entry:
    """A background task that has not ended."""

    __slots__ = ("name", "task")

    def __init__(self, name: str) -> None:
        self.name = name
        self.task: Task[Any] | None = None


class _Background:
    """The tasks that end with the server."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        # In the order of spawning, in which they are cancelled.
        self._entries: dict[_Entry, None] = {}
        self._ended = False
        self._all_gone: Event | None = None

    def open(self, engine: Engine) -> None:
        """From now on, there may be some."""
        self._engine = engine

    def spawn(self, coro: Coroutine[Any, Any, T], name: str | None) -> Task[T]:
        arguments.check_task(coro, name, "Server.spawn")
        if self._engine is None or self._ended:
            coro.close()
            when = "has ended" if self._ended else "has not started"
            raise UsageError(
                f"the server {when}: spawn() is for its lifespan and its handlers; "
                "anysock.spawn() runs a task that does not end with a server"
            )
        entry = _Entry(name or str(getattr(coro, "__qualname__", "task")))
        self._entries[entry] = None
        try:
            with of_no_connection():
                entry.task = task = self._engine.spawn_background(
                    self._run(entry, coro), name=entry.name
                )
        except BaseException:
            self._entries.pop(entry, None)
            coro.close()
            raise
        if self._ended:
            task.cancel()
        return task

    async def _run(self, entry: _Entry, coro: Coroutine[Any, Any, T]) -> T:
        try:
            return await coro
        finally:
            self._entries.pop(entry, None)
            if self._all_gone is not None and not self._entries:
                self._all_gone.set()

    async def end(self, engine: Engine, seconds: float) -> None:
        """Cancel them, and wait until they have ended, but no longer than `seconds`."""
        self._ended = True
        # Before the check: the last may end at any moment.
        self._all_gone = engine.event()
        for entry in list(self._entries):
            if entry.task is not None:
                entry.task.cancel()
        if self._entries:
            async with engine.scope(seconds):
                await self._all_gone.wait()
        for entry in list(self._entries):
            report_left(_log, entry.name)
