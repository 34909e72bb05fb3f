"""Happy eyeballs (RFC 8305): of the addresses of a name, the first that answers.

Tried one after the other, a dead address would hold up the following ones for as long as the kernel
repeats its SYN: two minutes. So each has a quarter of a second until the next is tried beside it,
and the families alternate, since it is mostly a whole family that is dead. The first that answers
wins, and the others are given up.

Differs from the RFC in what it asks of the resolver, which is getaddrinfo(3): that waits for the
answers about both families, so that there is no Resolution Delay (section 3) to keep.

It stands on `Engine.connect`, `spawn_background` and `scope` alone, so that it is the same under
every engine: where tasks are threads, or only one thing is done at a time, each address that is
tried beside another has a thread of its own until one of them answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from anysock.engines.base import Engine, SockAddr, Stream
from anysock.net.addresses import ResolvedAddress, format_peer
from anysock.tasks.groups import TaskGroup

#: RFC 8305, section 8: the recommended Connection Attempt Delay.
ATTEMPT_DELAY_SECONDS = 0.25


async def connect_to_any(
    engine: Engine,
    addresses: Sequence[ResolvedAddress],
    *,
    trying: Callable[[SockAddr], object] | None = None,
    delay: float = ATTEMPT_DELAY_SECONDS,
    local: SockAddr | None = None,
) -> tuple[ResolvedAddress, Stream]:
    """Connect to whichever of `addresses` answers first; return which it was, and the stream.

    They are tried in the order of `interleaved`: the next one once the last one tried has failed,
    or has not answered for `delay` seconds. `trying` is called with each before it is tried; each
    is connected to from the address `local`, if there is one. When this ends, however it ends, no
    other attempt goes on, and no other connection is left.

    Raises OSError when none answers, with the addresses as its `filename`: where all failed for
    one reason, for that; otherwise with the `errno` of the last of them, and all in its `strerror`.
    Its `__cause__` holds the errors of several.
    """
    race = _Race(engine, interleaved(addresses), trying, delay, local)
    if len(race.addresses) == 1:
        # Without a race, no task is needed.
        return await race.alone()
    return await race.run()


def interleaved(addresses: Iterable[ResolvedAddress]) -> list[ResolvedAddress]:
    """In the resolver's order, but with the families alternating, that of the first address first
    (RFC 8305, section 4)."""
    families: dict[int, list[ResolvedAddress]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for each in rounds for address in each if address is not None]


class _Race:
    def __init__(
        self,
        engine: Engine,
        addresses: list[ResolvedAddress],
        trying: Callable[[SockAddr], object] | None,
        delay: float,
        local: SockAddr | None,
    ) -> None:
        self.addresses = addresses
        self._engine = engine
        self._trying = trying
        self._delay = delay
        self._local = local
        # Attempts may run on threads of their own, so each writes its outcome in one step, and then
        # sets `_news`. The first of `_connected` has won; there may be others for a moment.
        self._connected: list[tuple[ResolvedAddress, Stream]] = []
        self._failed: dict[int, BaseException] = {}
        self._news = engine.event()

    async def alone(self) -> tuple[ResolvedAddress, Stream]:
        (address,) = self.addresses
        self._report_try(address)
        try:
            return address, await self._engine.connect(*address, local=self._local)
        except OSError as error:
            error.filename = format_peer(address.sockaddr)
            raise

    async def run(self) -> tuple[ResolvedAddress, Stream]:
        failure: Exception | None = None
        try:
            async with TaskGroup(background=True) as group:
                try:
                    await self._start_all(group)
                except Exception as error:  # noqa: BLE001
                    failure = error  # that of `trying`, as it is, and not in a group
                group.cancel()
            if failure is not None:
                raise failure
            if not self._connected:
                raise self._explain()
            await _drop(self._connected[1:])
        except BaseException:
            await _drop(self._connected)
            raise
        finally:
            # No cycle of exceptions, their tracebacks, and this.
            self._failed = {}
            del failure
        return self._connected[0]

    async def _start_all(self, group: TaskGroup) -> None:
        """Start one after the other; return when one has won, or all have failed."""
        for number, address in enumerate(self.addresses):
            self._report_try(address)
            attempt = self._attempt(number, address)
            try:
                group.spawn(attempt, name=f"connect-{number}")
            except OSError as error:  # no room for another thread
                self._failed[number] = error
            await self._until(lambda number=number: number in self._failed, self._delay)  # type: ignore[misc]
            if self._connected:
                return
        await self._until(lambda: len(self._failed) == len(self.addresses), None)

    async def _attempt(self, number: int, address: ResolvedAddress) -> None:
        try:
            stream = await self._engine.connect(*address, local=self._local)
        except BaseException as error:
            self._failed[number] = error
            if not isinstance(error, Exception):
                raise
        else:
            self._connected.append((address, stream))
        finally:
            self._news.set()

    async def _until(self, done: Callable[[], bool], seconds: float | None) -> None:
        """Wait until one has won, or `done`, or `seconds` have passed."""
        async with self._engine.scope(seconds):
            while True:
                # In this order: an attempt that ends before the new event is there is seen by the
                # check, and a later one sets the event.
                self._news = self._engine.event()
                if self._connected or done():
                    return
                await self._news.wait()

    def _report_try(self, address: ResolvedAddress) -> None:
        if self._trying is not None:
            self._trying(address.sockaddr)

    def _explain(self) -> BaseException:
        """What to raise when all have failed."""
        errors = []
        for _, error in sorted(self._failed.items()):
            if not isinstance(error, OSError):
                return error
            errors.append(error)
        names = [format_peer(address.sockaddr) for address in self.addresses]
        reasons = [error.strerror or str(error) for error in errors]
        if len(set(reasons)) == 1:
            reason = reasons[0]
        else:
            reason = "; ".join(map("{}: {}".format, names, reasons))
        failure = OSError(errors[-1].errno, reason, ", ".join(names))
        failure.__cause__ = ExceptionGroup("no address answers", errors)
        return failure


async def _drop(connected: Sequence[tuple[ResolvedAddress, Stream]]) -> None:
    for _, stream in connected:
        stream.abort()
    for _, stream in connected:
        await stream.close()
