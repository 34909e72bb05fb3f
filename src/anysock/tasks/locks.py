"""`Lock`, `Semaphore` and `Condition`: how tasks share what one of them alone may use.

The same under every engine; under `threads` they are safe between the threads. They may be made
anywhere, also at the top of a module, and are to be used under one engine.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, TypeVar

from anysock.engines.base import Event, Task
from anysock.engines.current import current_engine
from anysock.errors import WrongType
from anysock.streams.lock import Turns

T = TypeVar("T")


class Lock:
    """Lets one task at a time into an ``async with`` block; the others wait, first come, first
    served. So what is read in the block is still true when it is written, though there is an
    `await` between the two, or other threads.

    A task that is cancelled while it waits has not got the lock. While nobody holds it, to enter is
    no pause: no other task runs.

    >>> import anysock
    >>> balance = {"a": 10}
    >>> lock = anysock.Lock()
    >>> async def withdraw(amount):
    ...     async with lock:
    ...         left = balance["a"]
    ...         await anysock.sleep(0)  # such as to ask somebody
    ...         if left >= amount:
    ...             balance["a"] = left - amount
    >>> async def main():
    ...     async with anysock.task_group() as group:
    ...         group.spawn(withdraw(8))
    ...         group.spawn(withdraw(8))
    ...     return balance["a"]
    >>> anysock.run(main)
    2
    """

    __slots__ = ("_owner", "_turns")

    def __init__(self) -> None:
        self._turns = Turns(1)
        self._owner: Task[Any] | None = None

    def __repr__(self) -> str:
        return f"<Lock {'held' if self.locked else 'free'}>"

    @property
    def locked(self) -> bool:
        """Whether a task holds it."""
        return not self._turns.free

    async def acquire(self) -> None:
        """Get the lock, once it is the task's turn. Raises RuntimeError when the task holds it
        already: it would wait for itself, for ever."""
        task = current_engine().current_task()
        if self._owner is not None and self._owner == task:
            raise RuntimeError(f"the task {task.name!r} holds this lock already: a deadlock")
        await self._turns.enter()
        self._owner = task

    def release(self) -> None:
        """Give the lock to the task that has waited for the longest time. Raises RuntimeError when
        the calling task does not hold it."""
        self.check_held("release")
        self._owner = None
        self._turns.leave()

    def check_held(self, what: str) -> None:
        """Raises RuntimeError when the calling task does not hold the lock: it can't `what`."""
        owner = self._owner
        if owner is None:
            raise RuntimeError(f"can't {what}: nobody holds the lock")
        if owner != (task := current_engine().current_task()):
            raise RuntimeError(
                f"can't {what}: the lock is held by {owner.name!r}, not {task.name!r}"
            )

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()


class Semaphore:
    """Lets at most `places` tasks at a time into an ``async with`` block; the others wait, first
    come, first served. Unlike a lock, it is nobody's own: one task may acquire it, and another one
    release it.

    >>> import anysock
    >>> few = anysock.Semaphore(4)  # no more than 4 queries at once, whoever asks
    >>> async def handler(connection):
    ...     async with few:
    ...         await connection.send_all(await anysock.to_thread(query))
    """

    __slots__ = ("_places", "_turns")

    def __init__(self, places: int) -> None:
        if not isinstance(places, int):
            raise WrongType(f"a semaphore has a whole number of places, not {places!r}")
        if places < 1:
            raise ValueError(f"a semaphore has at least 1 place, not {places}")
        self._places = places
        self._turns = Turns(places)

    def __repr__(self) -> str:
        return f"<Semaphore {self.free} of {self._places} free>"

    @property
    def free(self) -> int:
        """How many may enter at once now."""
        return self._turns.free

    async def acquire(self) -> None:
        """Take a place, once it is the task's turn."""
        await self._turns.enter()

    def release(self) -> None:
        """Give a place to the task that has waited for the longest time. Raises RuntimeError when
        none is taken."""
        if self._turns.free >= self._places:
            raise RuntimeError("the semaphore was released more often than it was acquired")
        self._turns.leave()

    async def __aenter__(self) -> None:
        await self._turns.enter()

    async def __aexit__(self, *_: object) -> None:
        self._turns.leave()


class Condition:
    """A `Lock`, and tasks that wait, without it, until another tells them that something has
    changed.

    >>> import anysock
    >>> async def main():
    ...     changed, stock = anysock.Condition(), []
    ...     async def buyer():
    ...         async with changed:
    ...             await changed.wait_for(lambda: len(stock) >= 2)
    ...             return stock.pop()
    ...     task = anysock.spawn(buyer())
    ...     for thing in ("tea", "coffee"):
    ...         async with changed:
    ...             stock.append(thing)
    ...             changed.notify_all()
    ...     return await task.join()
    >>> anysock.run(main)
    'coffee'
    """

    __slots__ = ("_waiting", "lock")

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is not None and not isinstance(lock, Lock):
            raise WrongType(f"a condition takes a Lock, not {lock!r}")
        #: What it stands on. Several conditions may share one.
        self.lock = lock or Lock()
        # Touched only by tasks that hold the lock. Those that wait, first come, first served.
        self._waiting: collections.deque[Event] = collections.deque()

    @property
    def locked(self) -> bool:
        """Whether a task holds the lock."""
        return self.lock.locked

    async def acquire(self) -> None:
        """As `Lock.acquire`."""
        await self.lock.acquire()

    def release(self) -> None:
        """As `Lock.release`."""
        self.lock.release()

    async def __aenter__(self) -> None:
        await self.lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.lock.release()

    async def wait(self) -> None:
        """Release the lock, wait until `notify`, and acquire the lock again. Raises RuntimeError
        when the calling task does not hold it.

        The task holds the lock afterwards in any case, also when it is cancelled; a notification
        that it got at that moment goes to the next. What it has waited for need not be true any
        more when it has the lock: `wait_for` looks again.
        """
        self.lock.check_held("wait")
        engine = current_engine()
        waiter = engine.event()
        self._waiting.append(waiter)
        self.lock.release()
        try:
            await waiter.wait()
        except BaseException:
            await self._lock_again()
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            else:
                self.notify()
            raise
        await self._lock_again()

    async def _lock_again(self) -> None:
        async with current_engine().scope(shield=True):
            await self.lock.acquire()

    async def wait_for(self, predicate: Callable[[], T]) -> T:
        """`wait` until ``predicate()`` is true, and return its value. It is called with the lock
        held."""
        while not (value := predicate()):
            await self.wait()
        return value

    def notify(self, number: int = 1) -> None:
        """Wake `number` of the tasks that wait, those that have waited for the longest time. They
        go on once the lock is released. Raises RuntimeError when the calling task does not hold
        it."""
        self.lock.check_held("notify")
        for _ in range(min(number, len(self._waiting))):
            self._waiting.popleft().set()

    def notify_all(self) -> None:
        """Wake all tasks that wait; see `notify`."""
        self.notify(len(self._waiting))
