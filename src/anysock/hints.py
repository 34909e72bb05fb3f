"""What the log and a traceback say of a task that has failed: the same under every engine.

An error that another library's loop raises is clear only to readers who know that library; here it
gets a hint.
"""

from __future__ import annotations

import logging

from anysock.errors import Cancelled

#: How long cancelled tasks may take to clean up when an engine ends, in seconds.
CLEAN_UP_SECONDS = 5.0

# Of a task that no other joins, these are not reported: the first is no failure, and the others end
# the engine, which raises them.
_NOT_REPORTED = (Cancelled, KeyboardInterrupt, SystemExit)


def report_failed(log: logging.Logger, name: str, error: BaseException) -> None:
    """Log at once that a task failed which no other task joins."""
    if not isinstance(error, _NOT_REPORTED):
        log.error("task %r failed", name, exc_info=error)
        # It would keep the task's frames, and those their sockets.
        error.__traceback__ = None


def report_left(log: logging.Logger, name: str) -> None:
    """Log that a task goes on though it was cancelled `CLEAN_UP_SECONDS` ago."""
    log.error("task %r did not end when it was cancelled; it is left", name)


#: Which engines run the loop of a library. `anysock.engines`, which is above this, fills it in.
engines_by_loop: dict[str, list[str]] = {}

# These libraries run on the loop of any of those.
_ON_SEVERAL = {"anyio": ("asyncio", "trio"), "sniffio": ("asyncio", "trio")}


def _loops_for(library: str) -> tuple[str, ...]:
    """On which loops code runs that is written for `library`."""
    return _ON_SEVERAL.get(library, (library,))


def _engines_for(library: str) -> list[str]:
    return [engine for loop in _loops_for(library) for engine in engines_by_loop.get(loop, ())]


# The words of the libraries themselves, also where the user's code has called them.
_SAYINGS = {
    "no running event loop": "asyncio",
    "There is no current event loop": "asyncio",
    "trio.run received unrecognized yield message": "asyncio",
    "must be called from async context": "trio",
    "Task got bad yield: <class 'trio.": "trio",
    "unknown async library": "anyio",
}

# The kinds of error by which code shows that it misses a running loop.
_KINDS = (RuntimeError, AttributeError, TypeError)


def what_to_do(library: str) -> str:
    """In words, how to run what needs the loop of `library`."""
    engines = _engines_for(library)
    ours = "anysock.sleep(), anysock.Event and the like run under every engine"
    if not engines:
        return ours
    one_of = " or ".join(f'engine="{each}"' for each in engines)
    flag = f"anysock serve --engine {engines[0]}"
    return f"what needs the loop of {library} runs under {one_of} ({flag}); {ours}"


def not_ours(awaited: object) -> str:
    """The error for a coroutine that has yielded `awaited`, which is meant for another loop."""
    owner = awaited if isinstance(awaited, type) else type(awaited)
    library = owner.__module__.partition(".")[0]
    if awaited is None or hasattr(awaited, "_asyncio_future_blocking"):
        library = "asyncio"  # of asyncio.sleep(0), None is all that is seen
    return f"awaited {awaited!r}, which was written for another event loop; {what_to_do(library)}"


def add_hint(error: BaseException, loop: str = "") -> None:
    """If `error` comes of a loop that does not run here, note on it (PEP 678) which engine has it.

    `loop` is the library whose loop runs here, as `Engine.loop` says it. The note is part of every
    traceback.
    """
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            add_hint(each, loop)
    elif isinstance(error, _KINDS):
        library = _raised_by(error)
        if library and loop not in _loops_for(library):
            hint = what_to_do(library)
            if all(hint not in each for each in (str(error), *getattr(error, "__notes__", ()))):
                error.add_note(f"(Anysock: {hint}.)")


def _raised_by(error: BaseException) -> str:
    text = str(error)
    for saying, library in _SAYINGS.items():
        if text.startswith(saying):
            return library
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__", "")) if trace is not None else ""
    library = module.partition(".")[0]
    return library if _engines_for(library) else ""
