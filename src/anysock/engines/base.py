"""The engine contract: what an I/O model must offer, so that everything else stands on it.

An `await` in a handler is a request for I/O; an engine is one way to fulfil it. Two roles
carry the house, `Engine` and `Stream`; `Listener`, `Task` and `Event` are what an engine hands
out besides; what it runs on is its `Machine`. They are protocols: an engine inherits from none of
them. No code outside `engines/` and `loop/` reads the clock, sleeps, starts a thread or touches a
socket.

What every engine must honour is written in ``docs/promises.md``, each line with its test.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self, TypeVar

from anysock.engines.datagrams import Control, Datagram, Datagrams
from anysock.engines.machine import Binding, Machine, Missing, ResolvedName, SockAddr
from anysock.engines.stream import Data, Keepalive, PeerCredentials, Stream

#: The whole contract, by one name.
__all__ = [
    "NOTHING",
    "Binding",
    "Control",
    "Data",
    "Datagram",
    "Datagrams",
    "Engine",
    "Event",
    "Keepalive",
    "Listener",
    "Machine",
    "Missing",
    "Pauses",
    "PeerCredentials",
    "ResolvedName",
    "Scope",
    "SockAddr",
    "Stream",
    "Task",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

NOTHING: Mapping[int, Any] = MappingProxyType({})


class Listener(Protocol):
    """Sockets that listen, and from which `Engine.accept` takes peers."""

    @property
    def addresses(self) -> Sequence[SockAddr]:
        """The addresses that it is bound to."""
        ...

    @property
    def bindings(self) -> Sequence[Binding]:
        """What was asked for, for each of `addresses`."""
        ...

    @property
    def binding(self) -> Binding:
        """The binding on which the most recently accepted peer arrived."""
        ...

    def has_waiting(self) -> bool:
        """Whether a peer is connected already, and waits to be accepted."""
        ...

    def serve_backlog(self) -> None:
        """Let `close` keep the peers that wait on an inherited descriptor, too."""
        ...

    def close(self) -> None:
        """Stop listening, at once: new connects are refused. May be called from anywhere.

        Peers that were connected already, and waited in the backlog, are not turned away:
        `Engine.accept` returns them first, and then ends with `ListenerClosed`. (Where the engine
        is not `concurrent`, they could not be served in time, and are reset.) On an inherited
        descriptor they are left to the other processes that listen there.

        While there is no descriptor or no memory for such a peer, `Engine.accept` raises OSError,
        and may be tried again, until `reset_backlog`.
        """
        ...

    def reset_backlog(self) -> None:
        """After `close`: reset the peers that could not be accepted so far."""
        ...


class Task(Protocol[T_co]):
    """A coroutine that runs beside others, with its result. `spawn` returns it."""

    @property
    def name(self) -> str: ...

    @property
    def done(self) -> bool: ...

    @property
    def cancelling(self) -> bool:
        """Whether its end was asked for, by `cancel`, or by the engine at the end of `run`. Only
        then is one of `Engine.cancellations` that it raises its cancellation; otherwise it was
        raised by hand, or is that of another task, handed on."""
        ...

    def cancel(self) -> None:
        """Raise a cancellation at the task's next await, once. It may clean up and end."""
        ...

    async def join(self) -> T_co:
        """Wait until the task is done; return its result, or raise its exception, or `Cancelled`
        when it was cancelled."""
        ...


class Event(Protocol):
    """A flag that tasks wait for."""

    def set(self) -> None: ...
    def is_set(self) -> bool: ...
    async def wait(self) -> object: ...


class Scope(Protocol):
    """``async with`` block that can be given up: then a cancellation is raised, once, at the await
    where its task stands, and the block ends without an error.

    Scopes nest, and it is exact which of them fired.
    """

    @property
    def fired(self) -> bool:
        """Whether the block was given up for this scope."""
        ...

    def cancel(self) -> None:
        """Give the block up now; before it is entered, as soon as it is. May be called from any
        task; and again."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool: ...


class Pauses:
    """How often tasks had to wait for a peer to read, and how often they went on. A server that
    echoes does not read meanwhile: these are the pauses of its reading."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.begun += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.ended += 1


class Engine(Protocol):
    """One I/O model. Made for one `run`.

    An engine whose loop is ours has an attribute `own_loop` besides, by which the loop can be
    watched: see `engines.own_loop`.
    """

    name: str
    #: Whose event loop it runs, as in `engines.EngineEntry.loop`; empty: none.
    loop: str
    #: Whether a spawned task runs beside the one that spawned it. Where not, `spawn` runs it to
    #: its end, and a second client waits for the first to leave.
    concurrent: bool
    #: Whether all tasks share one thread: while one runs, it holds up all others.
    one_thread: bool
    #: What a cancellation is raised as: `Cancelled`, and the loop's own exception.
    cancellations: tuple[type[BaseException], ...]
    #: How often a peer that did not read has made a task wait in `send_all`; see `Pauses`.
    pauses: Pauses

    @property
    def machine(self) -> Machine:
        """What it runs on."""
        ...

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end under this I/O model, and return its result."""
        ...

    def listen(
        self, bindings: Sequence[Binding], backlog: int, socket_buffer: int | None = None
    ) -> Sequence[Listener]:
        """Bind all addresses of all `bindings`, and listen. Returns as many listeners as the engine
        wants accept loops.

        `backlog` is listen(2)'s: how many connections the kernel may keep waiting for us.
        `socket_buffer` is the size of each connection's SO_RCVBUF and SO_SNDBUF, in bytes; None
        leaves them to the system, which lets them grow.
        Raises OSError, with `filename` set to the address, for the first that cannot be bound;
        then none is.
        """
        ...

    async def accept(self, listener: Any) -> Stream:
        """Wait for the next peer. `listener` is one that this engine's `listen` has returned.

        Raises `ListenerClosed`, or what accept(2) raised, as it is: what to do about it is the
        server's decision, the same under every engine.
        """
        ...

    async def connect(
        self, family: socket.AddressFamily, address: SockAddr, *, local: SockAddr | None = None
    ) -> Stream:
        """Connect to `address`; from the address `local` of this machine, if it is given, where
        port 0 means any. Raises OSError."""
        ...

    def open_datagrams(
        self, family: socket.AddressFamily, address: SockAddr, *, connect: bool = False
    ) -> Datagrams:
        """A UDP socket that is bound to `address`; or connected to it, which sends nothing.
        Raises OSError, with `filename` set to the address."""
        ...

    def adopt_datagrams(self, fd: int) -> Datagrams:
        """The UDP socket behind an inherited descriptor. Raises OSError when it is none."""
        ...

    def spawn(self, coro: Coroutine[Any, Any, T], name: object = None) -> Task[T]:
        """Run `coro` as a task of its own; `name` is known by what `str` makes of it, when it is
        asked for. Where the engine is not `concurrent`, now and to its
        end. What it raises is logged, unless a task joins it; but SystemExit and
        KeyboardInterrupt end `run`, which raises them. Raises OSError when the machine has no room
        for another (then `coro` is closed).

        It runs in a copy of the caller's context (`contextvars`): what was set there is seen, and
        what it sets itself no other task sees. So do what `run` and `to_thread` are given."""
        ...

    def spawn_background(self, coro: Coroutine[Any, Any, T], name: object = None) -> Task[T]:
        """As `spawn`; but where the engine is not `concurrent`, on a thread of its own, so that it
        runs beside the handlers. For the server's housekeeping."""
        ...

    def call_from_thread(self, func: Callable[[], object]) -> None:
        """Let `func` be called where tasks run, soon. May be called from any thread. (Where tasks
        sleep in system calls, it is called at once: what it may touch is made for that.) Once the
        run has ended, it is called no more: a thread can't know when that is."""
        ...

    @property
    def left(self) -> Sequence[str]:
        """The names of the tasks that had not ended some seconds after `run` had cancelled them.
        (Under `trio`, `run` waits for them; under `threads`, it waits for none.)"""
        ...

    def living(self) -> Sequence[str]:
        """The names of the tasks that have not ended, where the engine knows them. May be called
        from any thread."""
        ...

    def current_task(self) -> Task[Any]:
        """The task that the calling code is part of."""
        ...

    def event(self) -> Event: ...

    async def sleep(self, seconds: float) -> None:
        """Let `seconds` pass; with 0, let the others run."""
        ...

    def scope(self, seconds: float | None = None, *, shield: bool = False) -> Scope:
        """A block that is given up after `seconds`; None: only when its `cancel` is called.

        With `shield`, what comes from outside of the block is held back while it runs: the end of
        the task, and scopes around the block, those that shield included, though they were given up
        before it was entered. It is raised at the first await after the block."""
        ...

    def past_cancellations(self) -> AbstractContextManager[object]:
        """A ``with`` block for the end of what must not be left behind. A scope of a loop that is
        not ours, which has cancelled the task, may cancel its every further await; within the
        block it does not. A cancellation that comes later is raised there as anywhere."""
        ...

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        """Run a function that blocks, without blocking the others."""
        ...

    def watch_signals(
        self,
        signals: Sequence[int],
        first: Callable[[int], None],
        again: Callable[[int], None],
        others: Mapping[int, Callable[[int], None]] = NOTHING,
    ) -> AbstractContextManager[None]:
        """Within the block, the first of `signals` calls `first(signal)` where tasks run; each
        further one calls `again(signal)` at once, in the signal handler itself or on a thread of
        its own, so that it works even while a handler blocks the loop. Each of `others` calls its
        function where tasks run, every time. To be entered on the main thread, and inside
        `run`."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC: the wall clock."""
        ...
