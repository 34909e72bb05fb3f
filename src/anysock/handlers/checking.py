"""Whether something can be a handler: asked before anybody connects, and told in words."""

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
    """`handler`, if it can be called with a connection, and what it returns be awaited.

    That is an ``async def`` function or method, a `functools.partial` of one, or an object whose
    ``__call__`` is one. What is no ``async def`` is taken where its annotation, or what it wraps
    (`functools.wraps`), says that it returns an awaitable; so is a lambda, which can't be one: what
    that returns is looked at when it is called.

    Raises `WrongType`, which says what is wrong with it; `label` is what it is called there.
    """
    label = label or _name_of(handler)
    problem = _what_it_is(handler)
    if problem:
        if inspect.iscoroutine(handler):
            handler.close()  # nobody will await it, and we say so ourselves
        raise WrongType(f"{label} is no handler: {problem}; {_WANTED}")
    wanted = handler
    if not _is_async(handler):
        if not _promises_awaitable(handler):
            raise WrongType(
                f"{label} is no handler: it is an ordinary function, which can't wait for its "
                f"connection; {_WANTED}"
            )
        wanted = _looked_at(handler, label)
    try:
        # Not that of what it wraps, to which it may give more than it is given.
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):
        return wanted  # type: ignore[no-any-return]  # it does not say what it takes
    try:
        signature.bind(None)
    except TypeError:
        raise WrongType(
            f"{label} is no handler: it is called with the connection and nothing else, and takes "
            f"{_parameters(signature)}; {_way_out(signature)}"
        ) from None
    return wanted  # type: ignore[no-any-return]


def _what_it_is(handler: Any) -> str:
    """In words, what can't be a handler whatever it does; empty for what can."""
    if inspect.isclass(handler):
        if hasattr(handler, "__await__"):
            return ""  # whoever calls it gets what can be awaited
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
    """Whether it is sure that what the call of `handler` returns can be awaited."""
    function = _called(handler)
    if inspect.isclass(function) or inspect.iscoroutinefunction(function):
        return True
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    return bool(flags & inspect.CO_ITERABLE_COROUTINE)  # that of types.coroutine


def _promises_awaitable(handler: Any) -> bool:
    """Whether what is no ``async def`` says that it returns an awaitable, or can't say it."""
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


def _looked_at(handler: Callable[[Connection], Any], label: str) -> Any:
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
