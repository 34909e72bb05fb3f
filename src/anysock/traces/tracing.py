"""Trace what runs: a block of code, or a server."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from anysock.engines.base import Engine
from anysock.engines.current import running_engine
from anysock.engines.running import told_of_next
from anysock.errors import UsageError
from anysock.options.serve import ServeOptions
from anysock.options.units import format_size
from anysock.options.values import trace_size
from anysock.telemetry.events import listening_to
from anysock.traces.format import head_of
from anysock.traces.writer import LIMIT, TraceWriter

if TYPE_CHECKING:
    from anysock.loop.observers import WatchedLoop
    from anysock.traces.steps import StepRecorder

_log = logging.getLogger("anysock")


@contextlib.contextmanager
def trace(
    path: str | os.PathLike[str], *, size: int | str = LIMIT, title: str | None = None
) -> Iterator[None]:
    """``with anysock.trace("loop.jsonl"):`` writes what happens within the block to a file, which
    `anysock trace view` shows and `anysock trace convert` makes a file for Perfetto of.

    What is traced is the engine that runs here, or else the next one that is started in the block
    on this thread, as by `anysock.run` and `anysock.serve`. Of our own loop (engines `selector`,
    `polling`, `uring`) each iteration is told, each step of each task, each wake-up and timer;
    under every engine, the connections of each server that starts within the block.

    The file is written over if it is there, and becomes at most `size` bytes large (a number, or a
    text such as ``"64MiB"``): what would be more is left out, which the log says, and from then on
    tracing costs nothing. `title` is what a viewer calls it; None: the name of the file.

    Raises `StartError` when the file can't be written, and `UsageError` for a `size` below 4 KiB,
    and when the loop is traced already.

    >>> async def main():
    ...     await sleep(0.01)
    >>> with trace("loop.jsonl"):
    ...     run(main)
    """
    with traced(path, trace_size(size), "code", title):
        yield


@contextlib.contextmanager
def traced(path: str | os.PathLike[str], size: int, of: str, title: str | None) -> Iterator[None]:
    """`trace`, of at most `size` bytes; `of` is what the head of the file says that was traced."""
    recording = _Recording(Path(path), size, of, title)
    try:
        engine = running_engine()
        if engine is not None:
            recording.begin(engine)
            yield
        else:
            with told_of_next(recording.begin):
                yield
    finally:
        recording.end()


def traced_server(options: ServeOptions, suffix: str = "") -> AbstractContextManager[None]:
    """Within the block, the engine that is started next is traced, if `options` say so."""
    if options.trace is None:
        return contextlib.nullcontext()
    return traced(options.trace + suffix, options.trace_size, "serve", None)


class _Recording:
    """A trace that is being written."""

    def __init__(self, path: Path, size: int, of: str, title: str | None) -> None:
        self._path = path
        self._size = size
        self._of = of
        self._title = title or path.name
        self._engine: Engine | None = None
        # The time that is 0 in the trace, by the engine's clock; None: that does not run yet.
        self._since: float | None = None
        self._last = 0
        self._loop: WatchedLoop | None = None
        self._steps: StepRecorder | None = None
        self._listening = contextlib.ExitStack()
        self._writer = TraceWriter(path, size, self._full)

    def begin(self, engine: Engine) -> None:
        """Trace `engine` from now on."""
        from anysock.traces.connections import ConnectionRecorder

        self._engine = engine
        self._head(engine.name)
        events = ConnectionRecorder(self._writer, self._now)
        self._listening.enter_context(listening_to(engine, events))
        self._loop = getattr(engine, "own_loop", None)
        if self._loop is not None:
            from anysock.traces.steps import StepRecorder

            if self._loop.observed_by(StepRecorder):
                raise UsageError("trace: this loop is traced already")
            self._since = engine.now()
            self._steps = StepRecorder(self._loop, self._writer, self._since)
            self._loop.observe(self._steps)
            self._steps.begin()

    def end(self) -> None:
        """Write what is left, and the last line."""
        self._listening.close()
        if self._engine is None:
            self._head("none")
        self._detach()
        if self._steps is not None:
            self._steps.flush()
        # (The clock of another library's loop can't be asked any more.)
        self._writer.close(self._last if self._steps is None else self._now())

    def _head(self, engine: str) -> None:
        began = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        version: str = sys.modules["anysock"].__version__
        head = head_of(self._of, engine, self._title, began=began, version=version)
        self._writer.line(head)

    def _now(self) -> int:
        assert self._engine is not None
        now = self._engine.now()
        if self._since is None:
            self._since = now
        self._last = round((now - self._since) * 1e9)
        return self._last

    def _detach(self) -> None:
        if self._loop is not None and self._steps is not None:
            self._loop.unobserve(self._steps)
            self._loop = None

    def _full(self, error: OSError | None) -> None:
        self._detach()
        if error is not None:
            _log.error("the trace %s ends here: %s", self._path, error.strerror)
        else:
            most = format_size(self._size)
            _log.warning(
                "the trace %s has its full size, %s: what follows is left out", self._path, most
            )
