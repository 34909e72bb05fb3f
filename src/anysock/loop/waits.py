"""Waits: what a task can pause on, besides another task: time, an event, a descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from anysock.errors import StreamBusy, StreamClosed
from anysock.loop.pollers import READABLE, WRITABLE, Poller
from anysock.loop.tasks import Task, TaskKernel, Wait, suspend
from anysock.loop.timers import Timer, Timers


class WaitKernel(TaskKernel, Protocol):
    """What waits need of the kernel."""

    poller: Poller
    timers: Timers
    clock: Callable[[], float]
    descriptors: dict[int, Descriptor]
    readers: dict[int, Task]
    writers: dict[int, Task]


class Sleep(Wait):
    """Pause for some seconds. No seconds at all is a place at the end of the ready queue."""

    __slots__ = ("_kernel", "_timer", "seconds")

    kind = "sleep"

    def __init__(self, kernel: WaitKernel, seconds: float) -> None:
        self._kernel = kernel
        self.seconds = seconds
        self._timer: Timer | None = None

    def enter(self, task: Task) -> None:
        kernel = self._kernel
        if self.seconds <= 0:
            kernel.wake(task)
        else:
            self._timer = kernel.timers.add(
                kernel.clock() + self.seconds, lambda: kernel.wake(task)
            )

    def leave(self, task: Task) -> None:
        if self._timer is not None:
            self._kernel.timers.cancel(self._timer)

    def due(self, now: float) -> float:
        """When it is over; if it has not begun, it does so `now`."""
        return now + self.seconds if self._timer is None else self._timer.when


class Event(Wait):
    """A flag that tasks wait for: `wait` returns once `set` was called."""

    __slots__ = ("_kernel", "_set", "_waiters")

    def __init__(self, kernel: WaitKernel) -> None:
        self._kernel = kernel
        self._set = False
        # A dict, so that leaving is O(1) and waiters are woken in the order of arrival.
        self._waiters: dict[Task, None] = {}

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        """Raise the flag and wake all its waiters."""
        self._set = True
        waiters, self._waiters = self._waiters, {}
        for task in waiters:
            self._kernel.wake(task)

    async def wait(self) -> None:
        """Return at once when the flag is up, else when it goes up."""
        if not self._set:
            await suspend(self)

    def enter(self, task: Task) -> None:
        self._waiters[task] = None

    def leave(self, task: Task) -> None:
        del self._waiters[task]


class Descriptor:
    """One file descriptor under the loop: the tasks that wait for it, and the interest that the
    poller was given.

    It stays registered between waits, with the interest that it had last: an echo connection that
    only ever waits to read costs one registration in its life, not two system calls a message.
    The price: the poller may report what no task waits for any more. Then, and only then, the
    kernel takes the interest back.
    """

    __slots__ = ("fd", "interest", "kernel")

    def __init__(self, kernel: WaitKernel, fd: int) -> None:
        self.kernel = kernel
        self.fd = fd
        self.interest = 0
        kernel.descriptors[fd] = self

    # A task that runs straight from the poller still stands where it waited a moment ago, but
    # it no longer waits.

    @property
    def has_reader(self) -> bool:
        """Whether a task waits to read."""
        return self.kernel.readers.get(self.fd) not in (None, self.kernel.current)

    @property
    def has_writer(self) -> bool:
        """Whether a task waits to write."""
        return self.kernel.writers.get(self.fd) not in (None, self.kernel.current)

    def readable(self) -> ReadWait:
        """A wait until it is readable."""
        return ReadWait(self)

    def writable(self) -> WriteWait:
        """A wait until it is writable."""
        return WriteWait(self)

    def set_interest(self, interest: int) -> None:
        """Tell the poller what to report from now on: a mask of READABLE and WRITABLE, or 0."""
        if self.kernel.descriptors.get(self.fd) is not self:
            raise StreamClosed("used after it was closed")
        poller = self.kernel.poller
        if not self.interest:
            poller.register(self.fd, interest)
        elif not interest:
            poller.unregister(self.fd)
        else:
            poller.modify(self.fd, interest)
        self.interest = interest

    def wake_writer(self) -> None:
        """Let the task that waits to write go on, if there is one, as if it could."""
        if self.has_writer:
            self.kernel.wake(self.kernel.writers.pop(self.fd))

    def close(self) -> None:
        """Forget the descriptor, before it is closed. Tasks that wait for it get `StreamClosed`.

        Safe to call again. The number may be used again by the next socket at once: the kernel
        looks descriptors up anew for each event, so a stale event finds the new owner or none.
        """
        kernel = self.kernel
        if kernel.descriptors.get(self.fd) is not self:
            return
        del kernel.descriptors[self.fd]
        if self.interest:
            kernel.poller.unregister(self.fd)
            self.interest = 0
        reader = kernel.readers.pop(self.fd, None)
        if reader is not None:
            self._forget(reader)
        if kernel.writers:
            writer = kernel.writers.pop(self.fd, None)
            if writer is not None:
                self._forget(writer)

    def _forget(self, task: Task) -> None:
        if task is self.kernel.current:
            # From here on it waits for nothing, or else its end would forget the wait again.
            task.wait = None
        else:
            self.kernel.wake(task, StreamClosed("closed while a task waited on it"))


class ReadWait(Wait):
    """Pause until a descriptor is readable."""

    __slots__ = ("descriptor",)

    kind = "read"

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor

    def enter(self, task: Task) -> None:
        descriptor = self.descriptor
        kernel, fd = descriptor.kernel, descriptor.fd
        if fd in kernel.readers and kernel.descriptors[fd] is descriptor:
            raise StreamBusy("another task is already waiting to receive here")
        if not descriptor.interest & READABLE:  # a closed one has none, so it is set, and raises
            descriptor.set_interest(descriptor.interest | READABLE)
        kernel.readers[fd] = task

    def leave(self, task: Task) -> None:
        del self.descriptor.kernel.readers[self.descriptor.fd]


class WriteWait(Wait):
    """Pause until a descriptor is writable."""

    __slots__ = ("descriptor",)

    kind = "write"

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor

    def enter(self, task: Task) -> None:
        descriptor = self.descriptor
        waiting = descriptor.kernel.writers
        if descriptor.fd in waiting and descriptor.kernel.descriptors[descriptor.fd] is descriptor:
            raise StreamBusy("another task is already waiting to send here")
        if not descriptor.interest & WRITABLE:  # a closed one has none, so it is set, and raises
            descriptor.set_interest(descriptor.interest | WRITABLE)
        waiting[descriptor.fd] = task

    def leave(self, task: Task) -> None:
        del self.descriptor.kernel.writers[self.descriptor.fd]
