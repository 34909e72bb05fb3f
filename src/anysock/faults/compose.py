"""Which faults a connection has, in which order, with which random choices."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from anysock.engines.base import Stream
from anysock.faults.close_after import CloseAfter
from anysock.faults.corrupt import CorruptStream
from anysock.faults.delay import DelayedStream
from anysock.faults.fail_on import FailOnLine
from anysock.faults.half_open import HalfOpenStream
from anysock.faults.reset_after import ResetAfter
from anysock.faults.slice import SlicedStream
from anysock.faults.throttle import ThrottledStream
from anysock.machine.chance import fresh_seed
from anysock.streams.connection import Connection

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

_log = logging.getLogger("anysock.faults")

# How many seeds we choose from, where none is given: few enough for a seed to be typed.
_SEEDS = 1_000_000


class Chance:
    """The random choices for connection `number`, the same for the same `seed`.

    Each fault has a generator of its own, so that one more fault does not change the others.
    """

    def __init__(self, seed: int, number: int) -> None:
        self._seed = seed
        self._number = number

    def of(self, fault: str) -> random.Random:
        return random.Random(f"{self._seed} {self._number} {fault}")


def faulty(
    handler: Callable[[Connection], Awaitable[object]], options: ServeOptions
) -> Callable[[Connection], Awaitable[object]]:
    """`handler`, for connections with the faults that `options` ask for."""
    seed = options.seed
    if options.jitter or options.corrupt or 0 < options.half_open < 1:
        if seed is None:
            seed = fresh_seed(_SEEDS)
        # Without this line a bad run could not be repeated.
        _log.info("faults on purpose: chance decides which; --seed %d repeats them", seed)
    numbers = itertools.count(1)

    async def with_its_faults(connection: Connection) -> None:
        chance = Chance(seed or 0, next(numbers))
        delayed = False
        if options.half_open and chance.of("half_open").random() < options.half_open:
            connection.wrap(HalfOpenStream)
            _log.debug("half-open on purpose: %s", connection.peer, extra={"peer": connection.peer})
        else:
            delayed = bool(options.delay or options.jitter)
            for make in faults_of(options, chance):
                connection.wrap(make)
        await handler(connection)
        if delayed:
            # How the connection ends is known only when the line is empty: the last data may meet a
            # limit, or a peer that is gone.
            await connection.close()

    return with_its_faults


def faults_of(options: ServeOptions, chance: Chance) -> Iterator[Callable[[Stream], Stream]]:
    """The layers around the stream, from the network to the handler."""
    if (reset_after := options.reset_after) is not None:
        yield lambda stream: ResetAfter(stream, reset_after)
    if (rate := options.throttle) is not None:
        yield lambda stream: ThrottledStream(stream, rate)
    if (most := options.slice) is not None:
        yield lambda stream: SlicedStream(stream, most)
    if (delay := options.delay) or options.jitter:
        jitter = options.jitter
        yield lambda stream: DelayedStream(stream, delay, jitter, chance.of("jitter"))
    if (close_after := options.close_after) is not None:
        yield lambda stream: CloseAfter(stream, close_after)
    if share := options.corrupt:
        yield lambda stream: CorruptStream(stream, share, chance.of("corrupt"))
    if (text := options.fail_on) is not None:
        yield lambda stream: FailOnLine(stream, text)
