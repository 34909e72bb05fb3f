"""What code of a history must not touch: the real machine.

Within a simulated history, the network and the clock are virtual, and chance comes from a seed.
User code that opens a real socket, or looks at the real clock, would make of it something else each
time; it meets `RealWorld` there, which names the line, and what to use instead.

Whose call it is, the innermost frame outside of the standard library decides. If that is the
user's, it is refused. The toolkit's own files, clocks and random numbers are let pass, and so are
those of installed libraries, and of the parts of the standard library that do something beside the
program: ``import``, ``logging``, ``traceback``. Real sockets, threads and processes are let pass to
nobody: whoever opens one, it is not part of the history.

Where clocks and chance are to be simulated, the user's code, and that of libraries, gets those of
the history from the very functions that would be refused: see `stand_ins`.

Three ways to notice, none of which costs anything elsewhere:

- an audit hook (PEP 578), for what the interpreter reports: sockets, files, processes, signals.
  Such a hook can't be removed; it is installed with the first history, and idles between them;
- while a history runs, functions of ``time``, ``random``, ``os`` and ``threading`` are replaced;
- and so are those that a module of the user's has taken by ``from time import monotonic``, and
  its ``datetime``, which asks the clock in C: see `dates`.

Not noticed are seeds that ``random.Random()`` takes from the system, and what was stored elsewhere
than in a module: a default of an argument, say, or an ``import datetime`` in a function. ``anysock
sim --check-determinism`` finds what they do.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any, NamedTuple

from anysock.errors import AnysockError, UsageError
from anysock.sim.dates import replaced_dates
from anysock.sim.doors import EVENTS, FOR_NOBODY, FUNCTIONS
from anysock.sim.origins import Origin, origin_of

_ENGINE = "anysock.engines.current.current_engine()"
_SIMULATED = 'World(real_world="simulate") gives that of the history in its place'

#: As one of the kinds that are let pass: clocks and chance are those of the history.
SIMULATE = "simulate"

#: What may be simulated, of what a history must not touch.
SIMULATED = frozenset({"clock", "random"})

#: What a history may be allowed to touch; and what there is instead.
INSTEAD = {
    "clock": f"use anysock.now(), or {_ENGINE}.time() for the wall clock; {_SIMULATED}",
    "sleep": "use anysock.sleep()",
    "random": "use a random.Random with a seed, such as world.random, or call "
    f"random.seed(world.seed) first; {_SIMULATED}",
    "sockets": "use anysock.connect(), and host.serve(): the network of the history is simulated",
    "threads": "use anysock.spawn()",
    "processes": "leave it to a test of its own: a history is one process",
    "files": "read it before the history: there is no simulated file system",
    "signals": "use host.signal()",
}


class RealWorld(AnysockError):
    """User code has touched the real machine within a simulated history.

    The message says where, in ``file:line``, what it was, and what to use instead. It ends the
    history, even where it is caught.
    """


def _nothing() -> None:
    pass


class Watch:
    """What is watched while one history runs."""

    def __init__(self, real_world: str | Collection[str] = "refuse") -> None:
        self._allowed = _allowed(real_world)
        #: Whether clocks and chance are simulated.
        self.simulates = SIMULATE in self._allowed
        #: What is called then in the place of what is real, by its name.
        self.stand_ins: Mapping[str, Callable[..., Any]] = {}
        #: The first that was refused; and what is called then.
        self.refused: RealWorld | None = None
        self.on_refusal: Callable[[], object] = _nothing
        # What `random` had for the time after the history, if the history has given it a seed.
        self._random_state: object = None
        self._thread = _thread.get_ident()
        # The frame that runs the history: what is outside of it is not looked at.
        self._bottom: FrameType | None = None

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Within the block, the history runs."""
        global _watch
        with in_place():
            self._bottom = sys._getframe(2)
            _watch = self
            try:
                yield
            finally:
                _watch = self._bottom = None
                if self._random_state is not None:
                    random.setstate(self._random_state)  # type: ignore[arg-type]
                    self._random_state = None

    def seed(self) -> None:
        """The history gives `random` a seed, and may draw from it from now on."""
        if self._random_state is None:
            self._random_state = random.getstate()

    def meet(self, kind: str, name: str) -> Callable[..., Any] | None:
        """Code has called `name`. Returns what is to be called in its place; None: that itself.
        Raises `RealWorld` if it must not be called."""
        __tracebackhide__ = True
        if kind in self._allowed or _thread.get_ident() != self._thread:
            return None
        if self._random_state is not None and name.startswith("random."):
            return None
        whose = self._whose_call(kind, name)
        if whose is None:
            return None
        if self.simulates and name in self.stand_ins:
            return self.stand_ins[name]
        frame, called = whose
        error = RealWorld(
            f"{os.path.relpath(frame.f_code.co_filename)}:{frame.f_lineno}: {called}() is the real "
            f"machine's, and within a simulated history it is refused: {INSTEAD[kind]} "
            f"(World(real_world={kind!r}) lets it pass)"
        )
        self.refused = self.refused or error
        self.on_refusal()
        raise error

    def _whose_call(self, kind: str, name: str) -> tuple[FrameType, str] | None:
        """Where the call is, and what was called there; None: it is let pass."""
        users: tuple[FrameType, str] | None = None
        others: tuple[FrameType, str] | None = None
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame.f_code.co_filename in _OWN:
            frame = frame.f_back
        while frame is not None and frame is not self._bottom:
            origin = origin_of(frame.f_code.co_filename)
            if origin is Origin.IMPORT or (origin is Origin.ASIDE and not (users or others)):
                return None
            if origin is Origin.USER:
                # It is not the last word: it may be in a module that is being imported.
                users = users or (frame, name)
            elif origin is Origin.LIBRARY and self.simulates and kind in SIMULATED:
                others = others or (frame, name)
            elif origin is Origin.LIBRARY or origin is Origin.ANYSOCK:
                if users is None and others is None and kind not in FOR_NOBODY:
                    return None
                others = others or (frame, name)
            name = f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"
            frame = frame.f_back
        return users or others


# Asked while a history runs.
_watch: Watch | None = None
_hooked = _replaced = False


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Within the block, the guards are in their places. They do nothing but where a history runs:
    for who runs many, and would put them there for each."""
    global _hooked, _replaced
    if _replaced:
        yield
        return
    if not _hooked:
        _hooked = True
        sys.addaudithook(_audit)
    # Where somebody else has put something in the place of a function, it stays there.
    places = [each for each in (*_PLACES, *_taken()) if each.names.get(each.name) is each.real]
    for place in places:
        place.names[place.name] = place.guarded
    _replaced = True
    try:
        yield
    finally:
        _replaced = False
        for place in places:
            if place.names.get(place.name) is place.guarded:
                place.names[place.name] = place.real


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    __tracebackhide__ = True
    if _watch is not None and event in EVENTS:
        _watch.meet(EVENTS[event], event)


def _allowed(real_world: str | Collection[str]) -> frozenset[str]:
    if real_world == "refuse":
        return frozenset()
    if real_world == "allow":
        return frozenset(INSTEAD)
    kinds = frozenset((real_world,) if isinstance(real_world, str) else real_world)
    if unknown := sorted(kinds - {*INSTEAD, SIMULATE}):
        raise UsageError(
            f'real_world={real_world!r}: unknown: {", ".join(unknown)}; choose "refuse", '
            f'"allow", or some of {SIMULATE}, {", ".join(INSTEAD)}'
        )
    return kinds


# -- functions that are replaced -------------------------------------------------------------------


class _Place(NamedTuple):
    """A name of a module, and what is there outside and within a history."""

    names: dict[str, Any]
    name: str
    real: Any
    guarded: Any


def _guarded(real: Callable[..., Any], name: str, kind: str, few: int) -> Callable[..., Any]:
    @functools.wraps(real)
    def guarded(*args: Any, **keywords: Any) -> Any:
        __tracebackhide__ = True
        if _watch is not None and len(args) < few:
            instead = _watch.meet(kind, name)
            if instead is not None:
                return instead(*args, **keywords)
        return real(*args, **keywords)

    return guarded


@functools.wraps(random.seed)
def _seed(a: Any = None, version: int = 2) -> None:
    if _watch is not None:
        if a is None:
            if _watch.meet("random", "random.seed") is not None:
                return  # it has one
        else:
            _watch.seed()
    _REAL_SEED(a, version)


_REAL_SEED = random.seed


def _place(module: ModuleType, name: str, kind: str, few: int) -> _Place:
    real = getattr(module, name)
    public = "os.urandom" if name == "_urandom" else f"{module.__name__}.{name.lstrip('_')}"
    return _Place(vars(module), name, real, _guarded(real, public, kind, few))


_PLACES = [
    *(_place(*each) for each in FUNCTIONS if hasattr(each[0], each[1])),
    _Place(vars(random), "seed", random.seed, _seed),
]


def _ask_for_clock(name: str) -> Callable[..., Any] | None:
    __tracebackhide__ = True
    return None if _watch is None else _watch.meet("clock", name)


_BY_REAL = {id(each.real): each.guarded for each in _PLACES} | replaced_dates(_ask_for_clock)

# Their frames are on the way from who calls to who looks.
_OWN = {each.__code__.co_filename for each in (_guarded, replaced_dates)}

# The places in modules of the user's, as of so many modules.
_in_modules: list[_Place] = []
_modules = 0


def _taken() -> list[_Place]:
    """The names of the user's modules that stand for what is replaced."""
    global _in_modules, _modules
    if len(sys.modules) != _modules:
        _modules = len(sys.modules)
        _in_modules = [
            _Place(names, name, value, _BY_REAL[id(value)])
            for names in [getattr(module, "__dict__", {}) for module in sys.modules.values()]
            if _is_users(names)
            for name, value in list(names.items())
            if id(value) in _BY_REAL
        ]
    return _in_modules


def _is_users(names: dict[str, Any]) -> bool:
    file = names.get("__file__")
    if file is None:
        return names.get("__name__") == "__main__"  # what was typed, or ``python -c``
    return origin_of(file) is Origin.USER
