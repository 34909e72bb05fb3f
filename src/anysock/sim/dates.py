"""The classes of ``datetime`` that look at the clock, for the user's modules while a history runs.

They ask the clock in C, so that no function can be replaced; nor can a method of theirs. So the
names of a module that stand for them stand for these instead, which make objects of the real
classes, take them for their own, and differ from them only in what looks at the clock.
"""

# ruff: noqa: DTZ001, DTZ011, DTZ012 - they do what the real ones do

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeAlias

#: Asked by the name of what was called: a function that gives seconds since 1970 in its place;
#: None: it is let pass. It raises where that must not be.
Ask: TypeAlias = Callable[[str], Callable[..., Any] | None]


class _StandsFor(type):
    """The class of a class that stands for `real`."""

    real: type

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.real)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(getattr(subclass, "real", subclass), cls.real)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.real

    def __hash__(cls) -> int:
        return hash(cls.real)


def replaced_dates(ask: Ask) -> dict[int, Any]:
    """What stands for the classes and for the module, by the `id` of these."""

    class Date(dt.date, metaclass=_StandsFor):
        real = dt.date

        def __new__(cls, *args: Any, **keywords: Any) -> Any:
            return dt.date(*args, **keywords)

        @classmethod
        def today(cls) -> Any:
            __tracebackhide__ = True
            clock = ask("datetime.date.today")
            return dt.date.fromtimestamp(clock()) if clock else dt.date.today()

    class DateTime(dt.datetime, metaclass=_StandsFor):
        real = dt.datetime

        def __new__(cls, *args: Any, **keywords: Any) -> Any:
            return dt.datetime(*args, **keywords)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            __tracebackhide__ = True
            clock = ask("datetime.datetime.now")
            if clock is None:
                return dt.datetime.now(tz)
            return dt.datetime.fromtimestamp(clock(), tz)

        @classmethod
        def today(cls) -> Any:
            __tracebackhide__ = True
            clock = ask("datetime.datetime.today")
            found = dt.datetime
            return found.fromtimestamp(clock()) if clock else found.today()

        @classmethod
        def utcnow(cls) -> Any:
            __tracebackhide__ = True
            clock = ask("datetime.datetime.utcnow")
            found = dt.datetime
            # (Its like, utcfromtimestamp, warns from Python 3.12 on, and of another name.)
            return (
                found.fromtimestamp(clock(), dt.UTC).replace(tzinfo=None)
                if clock
                else found.utcnow()
            )

    for each in (Date, DateTime):
        each.__name__ = each.__qualname__ = each.real.__name__
        each.__module__ = "datetime"
    return {
        id(dt.date): Date,
        id(dt.datetime): DateTime,
        id(dt): _Module(date=Date, datetime=DateTime),
    }


class _Module(ModuleType):
    """What stands for the module."""

    def __init__(self, **names: Any) -> None:
        super().__init__("datetime")
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(dt, name)
