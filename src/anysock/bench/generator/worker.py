"""A worker of the load generator: a process that loads a server, and reports in lines of JSON.

    python -m anysock.bench.generator.worker PLAN NUMBER

It connects, says ``{"ready": …}``, waits for a byte on standard input, and starts. One more byte
ends it early. At the end of standard input it exits, which closes its connections. What it says
meanwhile:

    {"begin": 12.5}                           the warm-up is over; by the monotonic clock
    {"tick": 5210, "echo": {"14743": 17, …},  messages since the last tick, and their latencies;
     "at": 1.25, "errors": {"reset": 1},      seconds since the begin; errors since the last tick,
     "sent": 0, "received": 0}                and bytes of a one-way load
    {"end": …, …}                             all that was measured; see `Tally.result`

Latencies are counted by the buckets of `anysock.bench.generator.latencies`. The worker in C
(``bench/reference/load.c``) says the same, so each can stand in for the other.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from typing import Any

from anysock.bench.generator.connector import Connector
from anysock.bench.generator.engine import LoadEngine
from anysock.bench.generator.models import model_of
from anysock.bench.generator.plan import Plan
from anysock.bench.generator.tally import Tally
from anysock.bench.processes import raise_descriptor_limit
from anysock.engines.base import Scope
from anysock.errors import StartError
from anysock.loop.tasks import suspend
from anysock.loop.waits import Descriptor, Event, ReadWait

# How many messages of an open loop may wait for their answers before the load is given up: the
# server is that far behind, and the worker's memory is bounded.
_MAX_WAITING = 1_000_000


class _Worker:
    """When a load starts and ends, its schedule, and what is reported. What its connections do is
    the model's affair."""

    def __init__(self, engine: LoadEngine, plan: Plan, number: int) -> None:
        self._engine = engine
        self._kernel = engine.kernel
        self._clock = engine.kernel.clock
        self._number = number
        self._plan = plan.share(number)
        self._tally = Tally(engine.kernel, self._plan.messages)
        self._connector = Connector(engine, self._plan, number, self._tally)
        self._model = model_of(plan)(engine, self._plan, self._tally, self._connector)
        self._ready = False
        #: From when on the ticks count that are said; NaN: no more are.
        self._ticks_since = math.nan
        self._started = Event(self._kernel)
        self._dismissed = Event(self._kernel)

    async def run(self) -> None:
        plan, tally = self._plan, self._tally
        ready = 0
        async with self._engine.scope() as preparing:
            self._kernel.spawn(self._watch(preparing), "stdin")
            # Over UDP there is no connection that could teach the server anything.
            echoes = plan.address.kind != "udp" and not plan.one_way
            if plan.warmup and self._number == 0 and echoes:
                await self._teach()
            ready = await self._model.prepare()
        if self._dismissed.is_set():
            return
        self._ready = True
        say(ready=ready, errors=dict(tally.errors))
        await self._started.wait()
        if self._dismissed.is_set():
            return
        for place in range(plan.connections):
            self._kernel.spawn(self._model.run_slot(place), f"slot-{place}")
        self._start_ticking()
        await self._load()
        # Until then the connections stay: with them threads of the server may end, and the CPU
        # time that they used would no longer be known.
        await self._dismissed.wait()

    async def _load(self) -> None:
        """Warm up, measure, and report."""
        plan, tally = self._plan, self._tally
        await self._phase(plan.warmup, self._clock())
        if plan.warmup:
            tally.start_anew(self._model.connected, keep_connects=not plan.churn)
        begun, cpu = self._clock(), _cpu_seconds()
        if plan.rate is not None:
            tally.counts_from = begun
        say(begin=begun)
        self._start_ticking(begun)  # anew, so that a tick ends with each interval
        await self._phase(plan.duration if plan.messages is None else None, begun)
        seconds, cpu = self._clock() - begun, _cpu_seconds() - cpu
        if plan.rate is not None:
            await self._wait_for_the_rest()
        self._ticks_since = math.nan
        self._say_tick(begun)
        say(**tally.result(seconds, cpu))

    async def _teach(self) -> None:
        """Open a connection, echo one message, close: before anything else, as part of the warm-up.

        The first large block that a server gives back teaches glibc's malloc to keep such blocks
        (mallopt(3), M_MMAP_THRESHOLD). Until its first client has left, a server that asks for
        large receives (asyncio) runs at half of its speed, which is not what one wants to know.
        """
        with self._tally.errors.counted():
            async with self._engine.scope(self._plan.timeout):
                conversation = await self._connector.open_stream(0)
                try:
                    await conversation.exchange(self._clock(), self._clock)
                finally:
                    await conversation.close(self._plan.reset)
        self._tally.connects.take()
        self._tally.opened = 0

    async def _phase(self, seconds: float | None, begun: float) -> None:
        """Load for `seconds`, or until the load is over. An open loop sends all messages that are
        due in that time, even if late."""
        if seconds == 0:
            return
        rate = self._plan.rate
        if rate is None:
            async with self._engine.scope(seconds):
                await self._tally.over.wait()
            return
        count = None if seconds is None else max(round(rate * seconds), 1)
        schedule = self._kernel.spawn(self._send_on_schedule(begun, rate, count), "schedule")
        async with self._engine.scope(seconds):
            await self._tally.over.wait()
        if self._tally.over.is_set():
            schedule.cancel()
        else:
            await schedule.join()

    async def _watch(self, preparing: Scope) -> None:
        """Standard input: a byte starts the load, once it is ready; a byte at any other time, or
        the end of the input, ends it early."""
        stdin = ReadWait(Descriptor(self._kernel, 0))
        while True:
            await suspend(stdin)
            byte = os.read(0, 1)
            if not (byte and self._ready and not self._started.is_set()):
                self._tally.over.set()
            if not self._ready:
                preparing.cancel()
            if self._ready or not byte:
                self._started.set()
            if not byte:
                self._dismissed.set()
                return

    async def _send_on_schedule(self, begun: float, rate: float, count: int | None) -> None:
        """Of the `count` messages of all workers (None: as many as are allowed), send ours: every
        `Plan.processes`-th, from our number on."""
        send, late = self._model.send, self._tally.late
        number = self._number
        while count is None or number < count:
            due = begun + number / rate
            while (now := self._clock()) < due:
                await self._engine.sleep(due - now)
            if not self._tally.allow(1):
                return
            number += self._plan.processes
            late.add(now - due)
            send(due)

    async def _wait_for_the_rest(self) -> None:
        """All messages of an open loop were sent; their latencies count, however long they are."""
        self._tally.over.set()
        async with self._engine.scope(self._plan.timeout):
            while self._model.waiting():
                await self._engine.sleep(0.001)  # between two checks
        self._tally.unanswered += self._model.waiting()

    def _start_ticking(self, begun: float | None = None) -> None:
        self._ticks_since = self._clock() if begun is None else begun
        self._kernel.spawn(self._tick(self._ticks_since), "ticker")

    async def _tick(self, begun: float) -> None:
        """Report progress, at times that count from `begun`, until another does; give up
        connections that do not answer, and a server that is lost."""
        tally, model, every = self._tally, self._model, self._plan.tick
        last_connected = now = self._clock()
        while True:
            due = begun + every * (int((now - begun) / every) + 1)
            while (now := self._clock()) < due:
                await self._engine.sleep(due - now)
            if self._ticks_since != begun:
                return
            self._say_tick(begun)
            long_ago = now - self._plan.timeout
            if model.connected:
                last_connected = now
            elif self._plan.messages is not None and last_connected < long_ago:
                # Without a connection, the messages that are left would never be sent.
                tally.errors["given up: no connection any more"] += 1
                tally.over.set()
            model.give_up(long_ago)
            if model.waiting() > _MAX_WAITING:
                tally.errors["given up: a million messages behind"] += 1
                tally.over.set()

    def _say_tick(self, begun: float) -> None:
        echo, errors = self._tally.collect(), self._tally.new_errors()
        sent, received = self._tally.new_bytes()
        say(
            tick=sum(echo.values()),
            echo=echo,
            at=self._clock() - begun,
            errors=errors,
            sent=sent,
            received=received,
        )


def say(**what: Any) -> None:
    """Write a line of JSON to the process that started us."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Do what the plan in the arguments says: ``worker PLAN NUMBER``."""
    plan, number = Plan.from_json(sys.argv[1]), int(sys.argv[2])
    raise_descriptor_limit()
    engine = LoadEngine(precise=plan.rate is not None)
    try:
        engine.run(_Worker(engine, plan, number).run())
    except StartError as error:
        say(failed=str(error))
        sys.exit(1)
    except MemoryError:
        say(failed="this machine has not enough memory for that")
        sys.exit(1)
    except BrokenPipeError:  # the process that started us is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
