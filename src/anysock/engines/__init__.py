"""The engines: one file or folder an I/O model, and the registry that says which there are.

- `base`, `machine`, `stream`, `datagrams`: the contract; `stream_state` is the state of a stream;
- `finished`: an awaitable that engines hand out when nothing is left to wait for;
- `current`, `running`: which engine runs the calling code;
- `blocking/` (and `threads`), `polling`, `selector`, `uring/`, `asyncio/` (and `asyncio-sock`),
  `uvloop`, `trio/`: the engines; `nonblocking/` is what `polling`, `selector`, `uring`, `asyncio`
  and `uvloop` share;
- `posix/`: what engines share that stand on real sockets;
- `sim/`: an engine on a simulated network;
- `own_loop`: what an engine offers whose loop is ours;
- `engine_thread`: an engine on a thread of its own.

The registry imports none of them. An engine is imported when it is chosen, so that
``import anysock`` costs neither asyncio nor what an optional engine brings along.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anysock import hints
from anysock.engines.base import Engine
from anysock.errors import UsageError

DEFAULT = "selector"

#: What `EngineEntry.loop` says of the loop in ``anysock/loop``.
OUR_LOOP = "anysock"


@dataclass(frozen=True)
class EngineEntry:
    """What is known of an engine without importing it."""

    name: str
    #: The class, as ``module:name``.
    path: str
    #: What the engine does in ``await connection.recv()`` when no data is there.
    when_no_data: str
    #: How many clients it serves at once.
    clients: str
    #: What it costs while all clients are silent.
    idle_cpu: str
    #: Whose event loop it runs: `OUR_LOOP`, or the module that has it; empty: none.
    loop: str = ""
    #: As `Engine.concurrent` and `Engine.one_thread`.
    concurrent: bool = True
    one_thread: bool = True
    #: Whether it sleeps while all clients are silent.
    sleeps: bool = True
    #: Whether it is there to be compared with another on the same loop: hints do not name it.
    to_compare: bool = False
    #: The module that it needs, and that is not always there; and how to get it.
    requires: str | None = None
    install: str = ""
    #: What else says why it can't be used here, as ``module:function``.
    checks: str = ""

    @property
    def has_our_loop(self) -> bool:
        """Whether its loop can be observed."""
        return self.loop == OUR_LOOP

    @property
    def thread_each(self) -> bool:
        """Whether each client has a thread of its own."""
        return self.concurrent and not self.one_thread

    def why_not(self) -> str | None:
        """Why the engine cannot be used here, and what to do about it; None when it can."""
        if self.requires is not None and importlib.util.find_spec(self.requires) is None:
            return f"needs the module {self.requires}: {self.install}"
        if self.checks:
            module, _, function = self.checks.partition(":")
            reason: str | None = getattr(importlib.import_module(module), function)()
            return reason
        return None


ENGINES: dict[str, EngineEntry] = {
    entry.name: entry
    for entry in (
        EngineEntry(
            name="blocking",
            path="anysock.engines.blocking.engine:BlockingEngine",
            when_no_data="sleeps in recv(2); nothing else runs until it returns",
            clients="1; others wait",
            idle_cpu="0",
            concurrent=False,
            one_thread=False,
        ),
        EngineEntry(
            name="threads",
            path="anysock.engines.blocking.threads:ThreadsEngine",
            when_no_data="sleeps in recv(2) on its own thread",
            clients="a thread each",
            idle_cpu="0",
            one_thread=False,
        ),
        EngineEntry(
            name="polling",
            path="anysock.engines.polling:PollingEngine",
            when_no_data="hands over; is retried on the next sweep, and the next, ...",
            clients="all",
            idle_cpu="a core",
            loop=OUR_LOOP,
            sleeps=False,
        ),
        EngineEntry(
            name="selector",
            path="anysock.engines.selector:SelectorEngine",
            when_no_data="pauses the task; epoll or kqueue wakes it (our own event loop)",
            clients="all",
            idle_cpu="0",
            loop=OUR_LOOP,
        ),
        EngineEntry(
            name="uring",
            path="anysock.engines.uring.engine:UringEngine",
            when_no_data="has asked for it already; the kernel receives, and then wakes the task "
            "(io_uring)",
            clients="all",
            idle_cpu="0",
            loop=OUR_LOOP,
            checks="anysock.engines.uring.available:why_not",
        ),
        EngineEntry(
            name="asyncio",
            path="anysock.engines.asyncio.engine:AsyncioEngine",
            when_no_data="pauses the task; asyncio's loop watches our poller, which wakes it",
            clients="all",
            idle_cpu="0",
            loop="asyncio",
        ),
        EngineEntry(
            name="asyncio-sock",
            path="anysock.engines.asyncio.sock_engine:AsyncioSockEngine",
            when_no_data="awaits loop.sock_recv of the standard library",
            clients="all",
            idle_cpu="0",
            loop="asyncio",
            to_compare=True,
        ),
        EngineEntry(
            name="uvloop",
            path="anysock.engines.uvloop:UvloopEngine",
            when_no_data="pauses the task; libuv's loop watches our poller, which wakes it",
            clients="all",
            idle_cpu="0",
            loop="asyncio",
            requires="uvloop",
            install="pip install 'anysock[uvloop]'",
        ),
        EngineEntry(
            name="trio",
            path="anysock.engines.trio.engine:TrioEngine",
            when_no_data="awaits trio.lowlevel.wait_readable",
            clients="all",
            idle_cpu="0",
            loop="trio",
            requires="trio",
            install="pip install 'anysock[trio]'",
        ),
    )
}

#: Engines that are no choice for a server, as nobody outside could reach it: they are in no table,
#: but `make_engine` knows them.
UNLISTED: dict[str, EngineEntry] = {
    entry.name: entry
    for entry in (
        EngineEntry(
            name="sim",
            path="anysock.engines.sim.engine:SimEngine",
            when_no_data="pauses the task; a simulated network wakes it",
            clients="all",
            idle_cpu="0",
            loop=OUR_LOOP,
        ),
    )
}

for _entry in ENGINES.values():
    if _entry.loop and not (_entry.has_our_loop or _entry.to_compare):
        hints.engines_by_loop.setdefault(_entry.loop, []).append(_entry.name)


def make_engine(engine: str | Engine) -> Engine:
    """A new engine of that name; or `engine` itself, when it is one, which is made for one `run`.

    Raises `UsageError` when the name is unknown, or that engine is not available here."""
    return engine_maker(engine)()


def engine_maker(engine: str | Engine) -> Callable[[], Engine]:
    """What makes that engine. Raises as `make_engine` does."""
    checked = known_engine(engine)
    if not isinstance(checked, str):
        return lambda: checked
    entry = engine_entry(checked)
    reason = entry.why_not()
    if reason is not None:
        raise UsageError(f"the engine {checked!r} is not available here: it {reason}")
    module, _, class_name = entry.path.partition(":")
    make: Callable[[], Engine] = getattr(importlib.import_module(module), class_name)
    return make


def engine_entry(name: str) -> EngineEntry:
    """What is known of the engine of that name. Raises KeyError."""
    return ENGINES.get(name) or UNLISTED[name]


def known_engine(engine: Any) -> str | Engine:
    """`engine`, if it is the name of an engine, or an engine. Raises `UsageError` if it is
    neither."""
    if isinstance(engine, str) and (engine in ENGINES or engine in UNLISTED):
        return engine
    if callable(getattr(engine, "run", None)) and callable(getattr(engine, "accept", None)):
        if isinstance(engine, type):
            raise UsageError(f"{engine.__name__} is the class of an engine: give an object of it")
        made: Engine = engine
        return made
    raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(ENGINES)}")
