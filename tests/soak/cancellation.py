"""Sends and receives that are given up at random moments; both ends check every byte.

    python -m tests.soak.cancellation --seconds 600 [--engine selector] [--seed 1]

What `engines.stream.Stream` promises to those who are cancelled: a receive has taken nothing, and a
send has either sent nothing, and may be repeated, or every later one raises StreamBroken. Each
connection is a pair of ends in one process, plain or TLS, with a sender and a receiver at both. A
byte tells its place in the stream, so that one that is lost, doubled or moved is found at once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anysock
from tests.contract.in_process.test_streams import two_ends
from tests.contract.in_process.test_tls_stream import tls_ends
from tests.harness import CONCURRENT_ENGINES
from tests.pki import TLS12, TLS13, Pki

KINDS = ("plain", "TLS 1.2", "TLS 1.3")

# So long that no piece of it is found elsewhere in it, as far as a mistake may move one.
_PLACES = random.Random(0).randbytes(1 << 20)

# What is raised at both ends once one of them has given its stream up.
_GONE = (ConnectionError, anysock.StreamAborted, anysock.StreamClosed, anysock.TlsError)

# Longer than anything here takes: who is not done by then waits for what was lost.
_PATIENCE = 60.0


def placed(start: int, size: int) -> bytes:
    """The `size` bytes of the stream from `start` on."""
    start %= len(_PLACES)
    return (_PLACES * (2 + (start + size) // len(_PLACES)))[start : start + size]


class Flow:
    """One direction of a connection."""

    def __init__(self, rng: random.Random, outcomes: Counter[str]) -> None:
        self._random = rng
        self._outcomes = outcomes
        #: How many bytes were sent for certain; and at most.
        self.sent = self.most_sent = 0
        self.received = 0
        self.ended = False

    async def give_up(self, operation: Callable[[], Awaitable[None]]) -> bool:
        """Do `operation` under one of the ways to give it up. Whether it came to its end."""
        rng, done = self._random, False

        async def do() -> None:
            nonlocal done
            await operation()
            done = True

        async def caught() -> None:
            # Else it would be reported, before it is joined.
            try:
                await do()
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        errors: list[Exception] = []
        way = rng.random()
        if way < 0.15:
            await do()
        elif way < 0.6:
            async with anysock.move_on_after(rng.choice((0, 0, 0.0001, 0.001, 0.01))):
                await do()
        else:
            # Cancelled by another task, anywhere: before it begins, too, in some engines.
            task = anysock.spawn(caught())
            for _ in range(rng.randrange(6)):
                await anysock.sleep(0 if rng.random() < 0.8 else 0.001)
            task.cancel()
            with contextlib.suppress(anysock.Cancelled):
                await task.join()
            if errors:
                raise errors[0]
        self._outcomes["done" if done else "given up"] += 1
        return done

    async def send(self, stream: Any, operations: int) -> None:
        rng = self._random
        for _ in range(operations):
            size = rng.choice((1, 100, 5_000, 70_000, 1_000_000)) + rng.randrange(3)
            # Some of an earlier one, that was given up, may be on its way: the same bytes.
            self.most_sent = max(self.most_sent, self.sent + size)
            data = placed(self.sent, size)
            try:
                if await self.give_up(functools.partial(stream.send_all, data)):
                    self.sent += size
                    self.most_sent = self.sent
            except anysock.StreamBroken:
                return await self._broken(stream)
        # Before, since the other end may see it at once.
        self.ended = True
        try:
            await stream.send_eof()
        except anysock.StreamBroken:
            self.ended = False
            return await self._broken(stream)
        return None

    async def _broken(self, stream: Any) -> None:
        self._outcomes["broken"] += 1
        stream.abort()
        await stream.close()

    async def receive(self, stream: Any) -> None:
        rng, taken = self._random, b""

        async def take(most: int | None) -> None:
            nonlocal taken
            taken = await stream.recv(most)

        while True:
            taken, before = b"", stream.bytes_received
            most = rng.choice((None, 1, 100, 4096, 200_000))
            try:
                done = await self.give_up(functools.partial(take, most))
            except _GONE:
                return self._lost()
            if not done:
                assert not taken, "a receive that was given up has returned something"
                assert stream.bytes_received == before, "what was not returned was counted"
                continue
            if not taken:
                assert self.ended, f"an end of the stream after {self.received} bytes"
                assert self.received == self.sent
                return None
            assert most is None or len(taken) <= most
            assert taken == placed(self.received, len(taken)), (
                f"wrong bytes from {self.received} on, of {self.sent} to {self.most_sent} sent"
            )
            self.received += len(taken)
            assert self.received <= self.most_sent, "more has come than was sent"
            if rng.random() < 0.1:
                await anysock.sleep(rng.choice((0, 0.001)))

    def _lost(self) -> None:
        self._outcomes["lost"] += 1
        assert self.received <= self.most_sent


async def one_connection(near: Any, far: Any, rng: random.Random, outcomes: Counter[str]) -> None:
    """Talk in both directions until both have ended, or one was broken."""
    operations = rng.randrange(1, 20)
    there, back = (Flow(random.Random(rng.random()), outcomes) for _ in range(2))
    broken: list[str] = []

    async def sending(flow: Flow, stream: Any) -> None:
        try:
            await flow.send(stream, operations)
        except _GONE as error:
            # Only because the other direction is broken.
            broken.append(repr(error))

    async with anysock.timeout(_PATIENCE), anysock.task_group() as group:
        group.spawn(sending(there, near))
        group.spawn(there.receive(far))
        group.spawn(sending(back, far))
        group.spawn(back.receive(near))
    if broken:
        assert not (there.ended and back.ended), f"all was sent, and yet {broken}"
    outcomes["connections"] += 1


def cancellations(engine: str, kind: str, seed: int, seconds: float, pki: Pki) -> Counter[str]:
    """One connection after the other for so many seconds, and until something was given up; how
    often what has happened. Raises AssertionError for what must not."""
    outcomes: Counter[str] = Counter()

    async def main() -> None:
        rng = random.Random(seed)
        end = time.monotonic() + seconds
        # On a busy machine, the first may take all of the time, and meet no cancellation.
        while time.monotonic() < end or not outcomes["given up"]:
            ends = (
                two_ends(lambda stream: stream)
                if kind == "plain"
                else tls_ends(pki, TLS12 if kind == "TLS 1.2" else TLS13)
            )
            async with ends as (near, far):
                await one_connection(near, far, rng, outcomes)

    anysock.run(main, engine=engine)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=CONCURRENT_ENGINES, action="append")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each engine")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"--seed {options.seed}")
    kinds = options.kind or KINDS
    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(Path(folder))
        for engine in options.engine or CONCURRENT_ENGINES:
            for kind in kinds:
                seconds = options.seconds / len(kinds)
                outcomes = cancellations(engine, kind, options.seed, seconds, pki)
                told = ", ".join(f"{count:,} {what}" for what, count in sorted(outcomes.items()))
                print(f"{engine}, {kind}: {told}", flush=True)


if __name__ == "__main__":
    main()
