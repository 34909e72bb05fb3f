"""What is explored: a handler, what its clients do, and what is judged. By name, so that it can be
told to another process, and written to a file."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from anysock.errors import UsageError
from anysock.handlers import HANDLERS, Handler, load_handler, named
from anysock.options.serve import ServeOptions
from anysock.options.units import raw_bytes
from anysock.sim import oracles
from anysock.sim.oracles import History, Oracle
from anysock.sim.talks import Conversation, Echo, Form, Lines, Unknown

#: Checks that are ours: each name, and what it says.
CHECKS = {
    "echo": "all bytes come back, in their order",
    "lines": "each line comes back, in its order",
    "none": "nobody knows what is answered: everything else must hold",
}


@dataclass(frozen=True)
class Case:
    """What is explored, besides the plan."""

    handler: Handler | str
    #: What clients send, and are answered.
    form: Form = field(default_factory=Echo)
    #: What each client does instead of its script.
    own: Conversation | None = None
    oracles: tuple[Oracle, ...] = tuple(oracles.ALL)


def default_check(handler: str) -> str:
    """The check for a handler, when none is asked for."""
    return handler if handler in ("echo", "lines") else "none"


def case_of(handler: str, check: str, options: ServeOptions) -> Case:
    """The case of these names. Raises `UsageError` when there is none such."""
    # Whether the handler is there, is found out once, and not in each history.
    found = load_handler(handler, options)
    serves: Handler | str = handler if handler in HANDLERS else found
    if check == "echo":
        return Case(serves)
    if check == "lines":
        return Case(serves, Lines(raw_bytes(options.prefix)))
    if check == "none":
        return Case(serves, Unknown())
    if ":" not in check:
        raise UsageError(
            f"unknown check {check!r}: choose one of {', '.join(CHECKS)}, or name a function of "
            "your own as package.module:function"
        )
    own = named(check, "check")
    if not callable(own):
        raise UsageError(f"the check {check!r} is no function: {own!r}")
    if inspect.iscoroutinefunction(own):
        return Case(serves, Unknown(), own=_with_two(own, check))
    return Case(serves, Unknown(), oracles=(*oracles.ALL, _as_oracle(own, check)))


def _with_two(own: Callable[..., Any], check: str) -> Conversation:
    """A client is called with its connection, and with chance if it takes that."""
    number = _arguments(own, check, "connection, or connection and random", (1, 2))
    if number == 2:
        return own

    @functools.wraps(own)
    async def without_chance(connection: Any, _random: Any) -> None:
        await own(connection)

    return without_chance


def _as_oracle(own: Callable[..., Any], check: str) -> Oracle:
    """A function of ours returns or yields what is wrong; one of the user's may also raise it."""
    _arguments(own, check, "history", (1,))

    @functools.wraps(own)
    def judged(history: History) -> Iterator[str]:
        try:
            wrong = own(history)
            if isinstance(wrong, str):
                yield wrong
            elif wrong is not None:
                yield from map(str, wrong)
        except AssertionError as error:
            yield str(error).partition("\n")[0] or "an assertion does not hold"

    return judged


def _arguments(own: Callable[..., Any], check: str, wanted: str, numbers: tuple[int, ...]) -> int:
    try:
        parameters = inspect.signature(own).parameters.values()
    except (TypeError, ValueError):
        return numbers[-1]
    usual = [each for each in parameters if each.kind in _BY_PLACE]
    needed = [each for each in usual if each.default is inspect.Parameter.empty]
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
        return numbers[-1]
    for number in reversed(numbers):
        if len(needed) <= number <= len(usual):
            return number
    raise UsageError(f"the check {check!r} is called with {wanted}, which it does not take")


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
