"""Whether an object can be a handler: checked before anybody connects, with an error in words."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from anysock.errors import WrongType
from anysock.streams.connection import Connection

_WANTED = "a handler is an `async def handler(connection)`"
_AWAITABLES = ("Awaitable", "Coroutine", "Future", "Task")


def checked(handler: Any, label: str = "") -> Callable[[Connection], Awaitable[object]]:
    """`handler`, if it can be called with a connection, and its result can be awaited.

    That is an ``async def`` function or method, a `functools.partial` of one, or an object whose
    ``__call__`` is one. Another callable is accepted if its annotation, or the function that it
    wraps (`functools.wraps`), says that it returns an awaitable. So is a lambda, which can't be
    ``async``: its result is checked at each call.

    Raises `WrongType`, which says what is wrong with it; `label` is its name there.
    """
    label = label or _name_of(handler)
    problem = _what_it_is(handler)
    if problem:
        if inspect.iscoroutine(handler):
            handler.close()  # without a warning that it was never awaited: our error says so
        raise WrongType(f"{label} is no handler: {problem}; {_WANTED}")
    wanted = handler
    if not _is_async(handler):
        if not _promises_awaitable(handler):
            raise WrongType(
                f"{label} is no handler: it is an ordinary function, which can't wait for its "
                f"connection; {_WANTED}"
            )
        wanted = _checked_when_called(handler, label)
    try:
        # Not the signature of the wrapped function, to which it may pass more arguments.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):
        return wanted  # type: ignore[no-any-return]  # it has no signature
    try:
        signature.bind(None)
    except TypeError:
        raise WrongType(
            f"{label} is no handler: it is called with the connection and nothing else, and takes "
            f"{_parameters(signature)}; {_way_out(signature)}"
        ) from None
    return wanted  # type: ignore[no-any-return]


def _what_it_is(handler: Any) -> str:
    """In words, why the object can't be a handler, whatever it does; empty: it may be one."""
    if inspect.isclass(handler):
        if hasattr(handler, "__await__"):
            return ""  # its objects can be awaited
        return f"it is a class: give an object of it, as in {handler.__name__}()"
    if inspect.isasyncgen(handler) or inspect.isasyncgenfunction(_called(handler)):
        return "it has a `yield`, and so is an async generator, which nobody would iterate"
    if inspect.isawaitable(handler):
        return "it has been called already: give the function itself, without its ()"
    if not callable(handler):
        return f"its type is {type(handler).__name__}, which can't be called"
    return ""


def _called(handler: Any) -> Any:
    """The function that runs when `handler` is called."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isroutine(handler) or inspect.isclass(handler) or not callable(handler):
        return handler
    return handler if inspect.iscoroutinefunction(handler) else type(handler).__call__


def _is_async(handler: Any) -> bool:
    """Whether it is certain that the result of `handler` can be awaited."""
    function = _called(handler)
    if inspect.isclass(function) or inspect.iscoroutinefunction(function):
        return True
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return bool(flags & inspect.CO_ITERABLE_COROUTINE)  # set by types.coroutine


def _promises_awaitable(handler: Any) -> bool:
    """Whether a callable that is no ``async def`` says that it returns an awaitable, or has no way
    to say it, like a lambda."""
    function = _called(handler)
    if getattr(function, "__name__", "") == "<lambda>":
        return True
    if any(_is_async(inspect.unwrap(each)) for each in (handler, function)):
        return True
    promised = getattr(function, "__annotations__", {}).get("return")
    if isinstance(promised, str):
        return promised.partition("[")[0].rpartition(".")[2] in _AWAITABLES
    origin = getattr(promised, "__origin__", promised)
    return inspect.isclass(origin) and issubclass(origin, Awaitable)


def _checked_when_called(handler: Callable[[Connection], Any], label: str) -> Any:
    @functools.wraps(handler)
    async def awaited(connection: Connection) -> None:
        found = handler(connection)
        if not inspect.isawaitable(found):
            raise WrongType(f"{label} is no handler: it has returned {found!r}; {_WANTED}")
        await found

    return awaited


def _parameters(signature: inspect.Signature) -> str:
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(inspect.Signature(bare)) if bare else "nothing"


def _way_out(signature: inspect.Signature) -> str:
    names = list(signature.parameters)
    if names[:1] == ["self"]:
        return "give the method of an object, and not of its class"
    if len(names) > 1:
        return "give the rest with functools.partial"
    return _WANTED


def _name_of(handler: Any) -> str:
    function = handler
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return repr(name) if isinstance(name, str) else repr(handler)
