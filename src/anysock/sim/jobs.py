"""The histories of an exploration, in this process or in several. What comes out does not depend on
how many there are: results are put together in the order of the seeds."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import IO, Any, Self

from anysock.errors import StartError, UsageError
from anysock.sim import wall
from anysock.sim.explore import Asked, Block, Explorer
from anysock.sim.story import Entry

# How long a block of histories is to take, so that who waits sees them come.
_BLOCK_SECONDS = 0.2

# Blocks are at most so large, and begin with one history: nobody knows yet how long one takes.
_MAX_BLOCK = 1000

# How many blocks a process has been asked for, so that it need not wait for the next.
_AHEAD = 2


class Sizes:
    """How many histories the next block has."""

    def __init__(self) -> None:
        self._size = 1

    def next(self) -> int:
        return self._size

    def took(self, histories: int, seconds: float) -> None:
        """A block of so many histories has taken so long."""
        rate = histories / max(seconds, 1e-3)
        self._size = max(1, min(int(rate * _BLOCK_SECONDS), 2 * self._size, _MAX_BLOCK))


def explored(asked: Asked, jobs: int = 1) -> Generator[Block, None, None]:
    """All blocks, in the order of their seeds, up to the first history that fails, unless they are
    to go on. The generator may be closed at any time. Raises what the handler's module raises when
    it is imported, `UsageError`, and `RealWorld`, as a `StartError` that says so."""
    if jobs == 1:
        return _in_this_process(asked)
    return _in_processes(asked, jobs)


def _in_this_process(asked: Asked) -> Generator[Block, None, None]:
    explorer, sizes = Explorer(asked), Sizes()
    first, end = asked.seed, asked.seed + asked.histories
    while first < end:
        seeds = range(first, min(first + sizes.next(), end))
        began = wall.seconds()
        block = explorer.block(seeds)
        yield block
        if block.failures and not asked.keep_going:
            return
        sizes.took(len(seeds), wall.seconds() - began)
        first = seeds.stop


def _in_processes(asked: Asked, jobs: int) -> Generator[Block, None, None]:
    sizes = Sizes()
    first, end = asked.seed, asked.seed + asked.histories
    waiting: dict[int, Block] = {}  # those that have come before their turn, by their first seed
    order: list[int] = []  # the first seeds of the blocks that are due, in their order
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(jobs):
            process = stack.enter_context(WorkerProcess(asked))
            selector.register(process.answers, selectors.EVENT_READ, process)

        def give(process: WorkerProcess) -> None:
            nonlocal first
            if first < end:
                # The last are small: nobody is to wait long for the one who has the last of all.
                share = -(-(end - first) // (jobs * _AHEAD))
                seeds = range(first, first + min(sizes.next(), share))
                order.append(first)
                process.ask(seeds)
                first = seeds.stop

        for key in list(selector.get_map().values()) * _AHEAD:
            give(key.data)
        while order:
            while order and order[0] in waiting:
                block = waiting.pop(order.pop(0))
                yield block
                if block.failures and not asked.keep_going:
                    return
            if not order:
                return
            for key, _ in selector.select():
                for seeds, block, seconds in key.data.answers_there():
                    waiting[seeds.start] = block
                    sizes.took(len(seeds), seconds)
                    if block.failures and not asked.keep_going:
                        end = first  # the blocks before it are awaited, and no others begin
                    give(key.data)


class WorkerProcess:
    """A process that runs histories: see `worker`. It ends with the block."""

    def __init__(self, asked: Asked, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "anysock.sim.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **environment},
            # A Ctrl-C is for us.
            start_new_session=True,
        )
        # The blocks that it was asked for, and since when it is at the first of them.
        self._asked: collections.deque[range] = collections.deque()
        self._began = 0.0
        # Of its answers, what was not looked at yet.
        self._received = b""
        self._send(asked.to_dict())

    @property
    def answers(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def ask(self, seeds: range) -> None:
        """Let it run the histories of these seeds, as a block, after those before."""
        if not self._asked:
            self._began = wall.seconds()
        self._asked.append(seeds)
        self._send({"what": "block", "seeds": [seeds.start, seeds.stop]})

    def answers_there(self) -> Iterator[tuple[range, Block, float]]:
        """The blocks that have come of those that it was asked for, in that order, and how long
        each took; to be called when there is one."""
        while True:
            block = Block.from_dict(self._receive())
            began, self._began = self._began, wall.seconds()
            yield self._asked.popleft(), block, self._began - began
            if b"\n" not in self._received:
                return

    def ask_hashes(self, seeds: range) -> None:
        """Let it run the histories of these seeds, in this order, and keep their traces."""
        self._send({"what": "hashes", "seeds": list(seeds)})

    def hashes(self) -> dict[int, str]:
        """The hash of each of these traces."""
        return dict(self._receive()["hashes"])

    def trace(self, seed: int) -> list[Entry]:
        """One of these traces."""
        self._send({"what": "trace", "seed": seed})
        return [(exact, line) for exact, line in self._receive()["trace"]]

    def _send(self, data: Any) -> None:
        assert self._process.stdin is not None
        # One that has ended says why in what it has answered.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(data).encode() + b"\n")

    def _receive(self) -> Any:
        while b"\n" not in self._received:
            chunk = self.answers.read(1 << 16)
            if not chunk:
                code = self._process.wait()
                raise StartError(f"a process that ran histories has ended, with exit code {code}")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        data = json.loads(line)
        if "error" in data:
            raise (UsageError if data["error"] == "UsageError" else StartError)(data["text"])
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
