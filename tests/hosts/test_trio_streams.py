"""trio's own checks of streams, on ours: over sockets, and in memory."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import anysock
from anysock.engines.current import current_engine
from anysock.testing import connection_pair
from tests.harness import LOOPBACK
from tests.trio_adapter import TrioStream, in_memory, over_a_socket

Maker = Callable[[], Awaitable[tuple[TrioStream, TrioStream]]]


async def sockets() -> tuple[TrioStream, TrioStream]:
    engine = current_engine()
    [listener] = engine.listen([LOOPBACK], 10, 4096)
    near = await engine.connect(socket.AF_INET, listener.addresses[0])
    far = await engine.accept(listener)
    listener.close()
    return over_a_socket(near), over_a_socket(far)


async def clogged_sockets() -> tuple[TrioStream, TrioStream]:
    # Of TCP, some bytes more find room once the peer's kernel has taken what is on its way.
    engine: Any = current_engine()
    pair = socket.socketpair()
    for sock in pair:
        sock.setblocking(False)
        for size in (1 << 20, 1 << 10, 1):  # there may be room for a few bytes only
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(bytes(size))
    near, far = [await engine._stream(sock, "") for sock in pair]
    return over_a_socket(near), over_a_socket(far)


async def memory() -> tuple[TrioStream, TrioStream]:
    near, far = connection_pair()
    return in_memory(near.stream), in_memory(far.stream)


async def clogged_memory() -> tuple[TrioStream, TrioStream]:
    near, far = connection_pair(buffer=100)
    await near.send_all(bytes(100))
    await far.send_all(bytes(100))
    return in_memory(near.stream), in_memory(far.stream)


@pytest.mark.parametrize(
    ("make", "make_clogged"),
    [(sockets, clogged_sockets), (memory, clogged_memory)],
    ids=["sockets", "memory"],
)
@pytest.mark.parametrize(
    ("check", "run"),
    [
        (trio.testing.check_two_way_stream, trio.run),
        (trio.testing.check_half_closeable_stream, functools.partial(anysock.run, engine="trio")),
    ],
    ids=["two-way", "half-closeable"],
)
def test_the_checks_of_trio_pass(
    check: Callable[[Maker, Maker], Awaitable[None]], run: Any, make: Maker, make_clogged: Maker
) -> None:
    async def main() -> None:
        with trio.fail_after(60):
            await check(make, make_clogged)

    run(main)
