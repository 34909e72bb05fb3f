"""Waiting for descriptors in an asyncio loop: a poller of our own within it.

asyncio takes a descriptor with a callback (``add_reader``), and calls that through a handle, a
context and an entry of its queue; a task that waits for a future is resumed by another entry, an
iteration later. That costs more than to receive and to send. So the loop gets one descriptor only:
that of a poller, which is readable while it has something to report (epoll(7), "Can an epoll
instance be nested"). Its list is gone through in one callback, and each task in it is resumed
straight from there, as `loop.kernel` does it.

How a task waits: it awaits something like a future. By what ``asyncio.isfuture`` documents,
`_asyncio_future_blocking`, `asyncio.Task` takes any object for one; it hands over what wakes the
task, and in which context that is to be run. A future puts that in the loop's queue; a `FdWait`
calls it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, NoReturn

from anysock.errors import StreamBusy, StreamClosed
from anysock.loop.pollers import FAILED, READABLE, WRITABLE, Poller, nested_poller
from anysock.loop.tasks import Wait

# How many descriptors one look may report, as in `loop.kernel`.
MAX_EVENTS = 512

_READ = READABLE | FAILED
_WRITE = WRITABLE | FAILED

_NO_CONTEXT = contextvars.Context()

#: What wakes a task: it takes the future that the task has waited for.
Wakeup = Callable[[Any], object]


class LoopWatch:
    """What watches descriptors for the tasks of one asyncio loop.

    In a loop that is `hosted`, by a program that runs already, it takes a descriptor while there
    are others to be watched, and gives it back with the last of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, hosted: bool) -> None:
        self.loop = loop
        self._hosted = hosted
        self.iterations = 0
        #: The waits to read, by descriptor number, of all that are watched.
        self.readers: dict[int, FdWait] = {}
        self.poller: Poller | None = None
        self._fd = -1

    def watch(self, fd: int) -> LoopDescriptor:
        if self.poller is None:
            self.poller, self._fd = nested_poller()
            self.loop.add_reader(self._fd, self._look)  # which keeps this alive, too
        descriptor = LoopDescriptor(self, fd)
        self.readers[fd] = descriptor.reading
        return descriptor

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more."""
        del self.readers[fd]
        if self._hosted and not self.readers:
            self.close()

    def close(self) -> None:
        """Leave the loop as it was. Safe to call again."""
        if self.poller is not None:
            self.loop.remove_reader(self._fd)
            self.poller.close()
            self.poller = None

    def _look(self) -> None:
        """Resume the tasks whose descriptors are ready."""
        assert self.poller is not None
        self.iterations += 1
        readers = self.readers
        try:
            for fd, mask in self.poller.poll(0, MAX_EVENTS):
                # Each message of a busy server passes here.
                wait = readers.get(fd)
                if mask == READABLE and wait is not None and (wakeup := wait.wakeup) is not None:
                    wait.wakeup = None
                    wait.context.run(wakeup, wait)
                elif wait is not None:
                    assert wait.descriptor is not None
                    self._rare(wait.descriptor, mask)
        except BaseException as error:  # noqa: BLE001
            # SystemExit, or KeyboardInterrupt, of a task. uvloop would take it for a failure of the
            # descriptor. (What was not resumed yet is reported again.)
            self.loop.call_soon(_raise, error)

    def _rare(self, descriptor: LoopDescriptor, mask: int) -> None:
        """An event that is not just the one that a reader waited for: see
        `Kernel._process_rare_event`."""
        unwanted = False
        for wanted, wait in ((_READ, descriptor.reading), (_WRITE, descriptor.writing)):
            if mask & wanted:
                if wait is None or wait.wakeup is None:
                    unwanted = True
                else:
                    wakeup, wait.wakeup = wait.wakeup, None
                    wait.context.run(wakeup, wait)
        if unwanted and descriptor.interest:
            descriptor.set_interest(
                (READABLE if descriptor.has_reader else 0)
                | (WRITABLE if descriptor.has_writer else 0)
            )


class LoopDescriptor:
    """One descriptor, and the tasks that wait for it."""

    __slots__ = ("fd", "interest", "open", "reading", "watch", "writing")

    def __init__(self, watch: LoopWatch, fd: int) -> None:
        self.watch = watch
        self.fd = fd
        #: What the poller was told to report.
        self.interest = 0
        self.open = True
        self.reading = FdWait(self, READABLE)
        self.writing: FdWait | None = None

    @property
    def has_reader(self) -> bool:
        return self.reading.wakeup is not None

    @property
    def has_writer(self) -> bool:
        return self.writing is not None and self.writing.wakeup is not None

    def readable(self) -> FdWait:
        return self.reading

    def writable(self) -> FdWait:
        if self.writing is None:
            self.writing = FdWait(self, WRITABLE)
        return self.writing

    def set_interest(self, interest: int) -> None:
        """Tell the poller what to report from now on: a mask of READABLE and WRITABLE, or 0."""
        poller = self.watch.poller
        assert poller is not None
        if interest == self.interest:
            return
        if not self.interest:
            poller.register(self.fd, interest)
        elif not interest:
            poller.unregister(self.fd)
        else:
            poller.modify(self.fd, interest)
        self.interest = interest
        self.reading.watched = bool(interest & READABLE)
        if self.writing is not None:
            self.writing.watched = bool(interest & WRITABLE)

    def wake_writer(self) -> None:
        if self.writing is not None:
            self.writing.end()

    def close(self) -> None:
        if self.open:
            self.open = False
            if self.interest:
                self.set_interest(0)
            self.watch.forget(self.fd)
            for wait in (self.reading, self.writing):
                if wait is not None:
                    wait.end(StreamClosed("closed while a task waited on it"))
                    wait.let_go()


class FdWait(Wait):
    """A wait until a descriptor is readable, or until it is writable: what a task takes for the
    future that it waits for. One task at a time waits on it, again and again."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_doubtful",
        "_event",
        "_loop",
        "_refusing",
        "context",
        "descriptor",
        "wakeup",
        "watched",
    )

    wakeup: Wakeup | None
    context: contextvars.Context

    def __init__(self, descriptor: LoopDescriptor, event: int) -> None:
        #: None once it is closed.
        self.descriptor: LoopDescriptor | None = descriptor
        self._event = event
        self._loop = descriptor.watch.loop
        # By this a task knows that it was yielded by an ``await``. It sets it to False, and calls
        # `add_done_callback`.
        self._asyncio_future_blocking = True
        #: What wakes the task that waits, if one does.
        self.wakeup = None
        #: Whether the poller reports the event.
        self.watched = False
        # How many tasks are about to be told that another one waits already; and whether one was
        # cancelled meanwhile, either of these or that one.
        self._refusing = 0
        self._doubtful = False

    # -- what a task calls, as of a future ---------------------------------------------------------

    #: Called when the task goes on; what it returns is not looked at.
    result = staticmethod(bool)

    def add_done_callback(self, wakeup: Wakeup, *, context: contextvars.Context) -> None:
        self._asyncio_future_blocking = True
        if self.wakeup is not None:
            self._refuse(wakeup, context, StreamBusy("another task is already waiting here"))
            return
        if not self.watched:
            descriptor = self.descriptor
            if descriptor is None or not descriptor.open:
                self._refuse(wakeup, context, StreamClosed("used after it was closed"))
                return
            try:
                descriptor.set_interest(descriptor.interest | self._event)
            except OSError as error:
                self._refuse(wakeup, context, error)
                return
        self.wakeup = wakeup
        self.context = context

    def cancel(self, msg: object = None) -> bool:
        """A task that waits on this is cancelled. False: it finds out by itself when it goes on."""
        if self._refusing:
            self._doubtful = True
            return False
        if self.wakeup is None:
            return False
        self.end(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True

    # -- what we call ------------------------------------------------------------------------------

    def end(self, error: BaseException | None = None) -> None:
        """Let the task that waits go on soon, if there is one: as if what it waits for had
        happened, or `error`."""
        wakeup, self.wakeup = self.wakeup, None
        if wakeup is not None:
            outcome = self if error is None else _Raises(error)
            self._loop.call_soon(wakeup, outcome, context=self.context)

    def let_go(self) -> None:
        """Refer to nothing that refers to this: the descriptor, and by the context the connection.
        Else these, and the socket's buffers, stay until the garbage collector comes."""
        self.descriptor = None
        self.context = _NO_CONTEXT

    def _refuse(self, wakeup: Wakeup, context: contextvars.Context, error: Exception) -> None:
        # Not here: a task can't be resumed while it pauses.
        self._refusing += 1
        self._loop.call_soon(self._refuse_now, wakeup, _Raises(error), context=context)

    def _refuse_now(self, wakeup: Wakeup, outcome: _Raises) -> None:
        self._refusing -= 1
        try:
            wakeup(outcome)
        finally:
            if self._doubtful and not self._refusing:
                self._doubtful = False
                self.end()


class _Raises:
    """In the place of the future that a task has waited for: one that has failed."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def result(self) -> NoReturn:
        try:
            raise self._error
        finally:
            del self._error


def _raise(error: BaseException) -> NoReturn:
    raise error
