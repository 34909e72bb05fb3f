"""Arguments are checked where they are given, and refused in a line that says what is taken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anysock.errors import UsageError, WrongType

T = TypeVar("T")


def check_coroutine(coro: Coroutine[Any, Any, T], caller: str) -> None:
    """Raises `WrongType` if `coro` is no coroutine."""
    if _is_coroutine(coro):
        return
    hint = ""
    if inspect.iscoroutinefunction(coro):
        hint = f"; call it: {caller}({getattr(coro, '__name__', 'function')}())"
    elif inspect.isasyncgen(coro):
        hint = ", which has a `yield` and so is iterated, not run"
    raise WrongType(f"{caller}() takes a coroutine, not {coro!r}{hint}")


def check_task(coro: Coroutine[Any, Any, T], name: str | None, caller: str) -> None:
    """Raises `WrongType` if no task of that `name` can be made of `coro`, which is closed then."""
    check_coroutine(coro, caller)
    if name is not None and not isinstance(name, str):
        coro.close()
        raise WrongType(f"{caller}() takes a text as the task's name, not {name!r}")


def check_seconds(seconds: float | None, caller: str, *, none: bool = False) -> None:
    """Raises `WrongType` if `seconds` is no number, nor None where that may be, and `UsageError`
    for NaN, which is neither before nor after anything."""
    if seconds is None and none:
        return
    if not isinstance(seconds, int | float):
        raise WrongType(f"{caller}() takes a number of seconds, not {seconds!r}")
    if seconds != seconds:  # noqa: PLR0124
        raise UsageError(f"{caller}() takes a number of seconds, not NaN")


def check_function(func: Callable[..., Any], caller: str) -> None:
    """Raises `WrongType` if `func` is no function that can be called on a thread."""
    if inspect.iscoroutine(func):
        func.close()
    if inspect.iscoroutinefunction(func) or inspect.iscoroutine(func):
        raise WrongType(f"{caller}() takes a function that blocks, not an async one: await it")
    if not callable(func):
        raise WrongType(f"{caller}() takes a function, not {func!r}")


def started(
    main: Callable[..., Coroutine[Any, Any, T]], args: tuple[Any, ...], caller: str
) -> Coroutine[Any, Any, T]:
    """The coroutine that ``main(*args)`` makes. Raises `WrongType` if it makes none; one that was
    made already, and will not be run, is closed."""
    if inspect.iscoroutine(main):
        main.close()
        raise WrongType(
            f"{caller}() takes the function, not its call: {caller}({main.__name__}, …), without ()"
        )
    if not callable(main):
        raise WrongType(f"{caller}() takes an async function, not {main!r}")
    coro = main(*args)
    if not _is_coroutine(coro):
        raise WrongType(
            f"{caller}() takes an async function, and {getattr(main, '__qualname__', main)} is "
            f"none: it has returned {coro!r}"
        )
    return coro


def _is_coroutine(value: object) -> bool:
    if isinstance(value, Coroutine):
        return True
    # That of types.coroutine is a generator.
    return inspect.isgenerator(value) and inspect.isawaitable(value)
