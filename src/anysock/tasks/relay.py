"""Two connections joined into one, both ways: what a proxy does."""

from __future__ import annotations

from anysock.engines.current import current_engine
from anysock.errors import UsageError
from anysock.streams.connection import Connection
from anysock.tasks.groups import task_group


async def relay(a: Connection, b: Connection) -> tuple[int, int]:
    """Send on to each of two connections what the other receives, until both have ended their
    streams. Return how many bytes went from `a` to `b`, and from `b` to `a`.

    A half-close is carried over: when one peer ends its stream, the other one gets that end, and
    may still send. What was buffered goes first. A peer that does not read holds up the other one:
    no more than one chunk each way is kept in memory. Neither connection is closed.

    Raises the first error when one of them is lost; then both are aborted, so that the other peer
    is told by a reset, and does not take what it has for all. So they are when it is cancelled.
    Raises `UsageError` under an engine that does one thing at a time.

    >>> import anysock
    >>> async def proxy(client):
    ...     async with await anysock.connect("example.com:7") as server:
    ...         await anysock.relay(client, server)
    """
    engine = current_engine()
    if not engine.concurrent:
        raise UsageError(
            f"the engine {engine.name!r} does one thing at a time, so it can't relay both ways: "
            "choose another engine"
        )
    failed: list[BaseException] = []
    try:
        async with task_group() as group:
            back = group.spawn(_copy(b, a, failed), name="relay")
            there = await _copy(a, b, failed)
        return there, await back.join()
    except BaseExceptionGroup:
        # The second error is that of our abort.
        raise failed[0] from None


async def _copy(source: Connection, target: Connection, failed: list[BaseException]) -> int:
    copied = 0
    try:
        while data := await source.recv():
            await target.send_all(data)
            copied += len(data)
        await target.send_eof()
    except BaseException as error:
        failed.append(error)
        # This wakes the other direction, too, where a cancellation would not (`threads`).
        source.abort()
        target.abort()
        raise
    return copied
