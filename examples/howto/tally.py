"""A tally server. Each line is a number; the answer is the sum of all numbers of all clients."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anysock


@dataclass
class Tally:
    """What all clients share."""

    total: int = 0
    lock: anysock.Lock = field(default_factory=anysock.Lock)


@contextlib.asynccontextmanager
async def lifespan(_server: anysock.Server) -> AsyncIterator[Tally]:
    tally = Tally()
    yield tally
    print("in the end:", tally.total)


def plus(total: int, line: bytes) -> int:
    return total + int(line)


async def careless(connection: anysock.Connection[Tally]) -> None:
    tally = connection.state
    async for line in connection.lines():
        # Under `threads`, another client may come in between the reading and the writing: what it
        # has added is lost.
        tally.total = plus(tally.total, line)
        await connection.send_all(b"%d\n" % tally.total)


async def careful(connection: anysock.Connection[Tally]) -> None:
    tally = connection.state
    async for line in connection.lines():
        async with tally.lock:
            tally.total = total = plus(tally.total, line)
        await connection.send_all(b"%d\n" % total)


if __name__ == "__main__":
    anysock.serve(careful, lifespan=lifespan, bind="127.0.0.1:8000")
