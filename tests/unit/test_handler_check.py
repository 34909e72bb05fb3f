"""What can be a handler, and what is refused before anybody connects."""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Coroutine
from typing import Any
from unittest import mock

import pytest

import anysock
from anysock.handlers.checking import checked


def run_handler(handler, connection):
    async def main():
        await handler(connection)

    anysock.run(main)


def name_of(value):
    return getattr(value, "__qualname__", type(value).__name__)


async def good(connection):
    connection.append("served")


async def of_two(connection, word):
    connection.append(word)


class Callable:
    async def __call__(self, connection):
        connection.append("served")

    async def method(self, connection):
        connection.append("served")

    @staticmethod
    async def static(connection):
        connection.append("served")

    @classmethod
    async def of_class(cls, connection):
        connection.append("served")


class Wrapping:
    """What a decorator makes that is a class."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, connection):
        return self.function(connection)


def annotated(connection) -> Awaitable[None]:
    return good(connection)


def annotated_when_asked(connection) -> Coroutine[Any, Any, None]:
    return good(connection)


annotated_when_asked.__annotations__ = {"return": Coroutine[Any, Any, None]}


@functools.wraps(good)
def wrapper(connection):
    return good(connection)


@functools.wraps(of_two)
async def gives_more(connection):
    await of_two(connection, "served")


@types.coroutine
def of_generator(connection):
    yield from good(connection).__await__()


class MadeByCalling:
    def __init__(self, connection):
        self.connection = connection

    def __await__(self):
        return good(self.connection).__await__()


async def any_arguments(*arguments, **more):
    await good(*arguments)


async def with_default(connection, word="served", *, more=None):
    connection.append(word)


@pytest.mark.parametrize(
    "handler",
    [
        good,
        functools.partial(of_two, word="served"),
        functools.partial(functools.partial(of_two), word="served"),
        functools.partial(Callable()),
        Callable(),
        Callable().method,
        Callable.static,
        Callable().static,
        Callable.of_class,
        Wrapping(good),
        annotated,
        annotated_when_asked,
        wrapper,
        gives_more,
        of_generator,
        any_arguments,
        with_default,
        MadeByCalling,
        lambda connection: of_two(connection, "served"),
    ],
    ids=name_of,
)
def test_what_can_be_a_handler(handler):
    connection: list[str] = []
    run_handler(checked(handler), connection)
    assert connection == ["served"]


def test_a_mock_can_be_a_handler():
    handler = mock.AsyncMock()
    run_handler(checked(handler), "connection")
    handler.assert_awaited_once_with("connection")


def ordinary(connection):
    pass


async def no_parameter():
    pass


async def keyword_only(*, connection):
    pass


async def more_keywords(connection, *, word):
    pass


async def generator(connection):
    yield connection


def plain_generator(connection):
    yield connection


class NoHandler:
    def __call__(self, connection):
        pass


WRONG: list[tuple[object, str]] = [
    (ordinary, "'ordinary' is no handler: it is an ordinary function"),
    (plain_generator, "'plain_generator' is no handler: it is an ordinary function"),
    (print, "'print' is no handler: it is an ordinary function"),
    (NoHandler(), "is no handler: it is an ordinary function"),
    (functools.partial(ordinary), "'ordinary' is no handler: it is an ordinary function"),
    (no_parameter, "'no_parameter' is no handler: .*takes nothing; a handler is an `async def"),
    (of_two, r"takes \(connection, word\); give the rest with functools.partial"),
    (keyword_only, r"takes \(\*, connection\); a handler is an"),
    (more_keywords, r"takes \(connection, \*, word\); give the rest with functools.partial"),
    (Callable.method, r"takes \(self, connection\); give the method of an object"),
    (functools.partial(good, "first"), "takes nothing; a handler is an"),
    (generator, "it has a `yield`"),
    (Callable, r"it is a class: give an object of it, as in Callable\(\)"),
    (None, "None is no handler: its type is NoneType, which can't be called"),
    (8000, "8000 is no handler: its type is int, which can't be called"),
    (b"echo", "its type is bytes"),
    (types, "its type is module"),
]


@pytest.mark.parametrize(
    ("handler", "says"),
    WRONG,
    ids=name_of,
)
@pytest.mark.parametrize(
    "entrance",
    [checked, anysock.Server, anysock.serve, functools.partial(anysock.serve, workers=2)],
)
def test_what_can_not_is_refused_at_once(handler, says, entrance):
    with pytest.raises(anysock.WrongType, match=says) as caught:
        entrance(handler)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, anysock.UsageError)


def test_what_was_called_already_is_refused_and_closed():
    for made in (good(None), generator(None)):
        with pytest.raises(anysock.WrongType):
            checked(made)
    # The test would fail by a warning if one were left that is never awaited.


def test_what_only_the_call_can_tell_is_told_then():
    handler = checked(lambda connection: 42)
    with pytest.raises(anysock.WrongType, match=r"it has returned 42; a handler is an `async def"):
        run_handler(handler, None)
