"""A worker of the load generator: a process that loads a server, and reports in lines of JSON.

    python -m anysock.bench.worker PLAN NUMBER

It connects, says ``{"ready": …}``, waits for a byte on standard input, and begins. A byte more ends
it early. The end of standard input lets it go, connections and all. What it says meanwhile:

    {"begin": 12.5}                           the warm-up is over; by the monotonic clock
    {"tick": 5210, "echo": {"14743": 17, …}}  messages since the last tick, and their latencies
    {"end": …, …}                             all that was measured; see `_Worker._result`

Latencies are counted by the buckets of `anysock.bench.latencies`. The worker in C (`reference/`)
says the same, so either can stand in for the other.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import resource
import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from anysock.bench.conversation import SMALL, Conversation, pattern_of
from anysock.bench.datagrams import DatagramConversation
from anysock.bench.faults import Errors, Fault
from anysock.bench.latencies import Samples
from anysock.bench.plan import Plan
from anysock.bench.pollers import PrecisePoller
from anysock.bench.processes import raise_descriptor_limit
from anysock.bench.streams import StreamConversation
from anysock.engines.base import Datagrams, Scope, Stream
from anysock.engines.nonblocking import NonblockingEngine, NonblockingStream
from anysock.errors import StartError, TlsError
from anysock.loop.pollers import default_poller
from anysock.loop.tasks import suspend
from anysock.loop.waits import Descriptor, Event, ReadWait
from anysock.net.addresses import ResolvedAddress, resolve
from anysock.tasks.groups import task_group
from anysock.tasks.happy_eyeballs import ATTEMPT_DELAY_SECONDS, connect_to_any
from anysock.tasks.runtime import datagrams_to

if TYPE_CHECKING:
    import ssl

Talk: TypeAlias = Conversation | StreamConversation | DatagramConversation
#: What a conversation goes over.
Way: TypeAlias = Stream | Datagrams

# Between two attempts to connect after a failure, so that a server that is gone is not flooded.
RETRY_SECONDS = 0.1

TICK_SECONDS = 0.25

# How many connections are opened at a time: more than a backlog holds would wait for a retry of
# TCP's, a second later.
CONNECTING_AT_ONCE = 16

# Patterns are shared by connections: with 5,000 of them, a pattern each would be too much.
PATTERNS = 16

# How many messages of an open loop may wait for their answers before it is given up: the server is
# that far behind, and the worker's memory is bounded.
MOST_BEHIND = 1_000_000


class _LoadEngine(NonblockingEngine):
    name = "load"

    def __init__(self, precise: bool) -> None:
        super().__init__(PrecisePoller() if precise else default_poller())
        #: The loop, which the load stands on without an engine between.
        self.kernel = self._kernel


class _Worker:
    def __init__(self, engine: _LoadEngine, plan: Plan, number: int) -> None:
        self._engine = engine
        self._kernel = engine.kernel
        self._clock = engine.kernel.clock
        self._number = number
        self._plan = plan.share(number)
        self._echo = Samples()
        self._connects = Samples()
        self._first_bytes = Samples()
        self._late = Samples()
        self._totals: dict[str, collections.Counter[int]] = {}
        self._errors = Errors()
        self._opened = 0
        self._unanswered = 0
        #: When the first message that counts was due, in an open loop.
        self._counts_from = -math.inf
        #: How many messages may still be sent, and how many have come to their end, either way.
        self._remaining = self._plan.messages
        self._settled = 0
        self._talks: dict[Talk, None] = {}
        self._context: ssl.SSLContext | None = None
        if plan.address.tls:
            from anysock.net.certificates import client_context

            self._context = client_context(plan.tls_ca, plan.insecure, plan.tls_cert, plan.tls_key)
        self._patterns: dict[int, bytes] = {}
        self._addresses = resolve(plan.address, engine.machine, passive=False)
        self._answered: ResolvedAddress | None = None
        # Of an open loop: the connections, in the order in which they are to send; with churn, what
        # is due and the slots that have nothing to do.
        self._ring: collections.deque[Talk] = collections.deque()
        self._due: collections.deque[float] = collections.deque()
        self._idle: collections.deque[Event] = collections.deque()
        self._ready = False
        self._started = Event(self._kernel)
        self._over = Event(self._kernel)
        self._dismissed = Event(self._kernel)

    # -- the course of things ------------------------------------------------------------------

    async def run(self) -> None:
        plan = self._plan
        streams: dict[int, Way] = {}
        async with self._engine.scope() as preparing:
            self._kernel.spawn(self._watch(preparing), "stdin")
            # (Over UDP there is nobody whom a connection could teach anything.)
            if plan.warmup and self._number == 0 and plan.address.kind != "udp":
                await self._teach()
            if not plan.churn:
                await self._open_all(streams)
        if self._dismissed.is_set():
            return
        self._ready = True
        say(ready=len(streams), errors=dict(self._errors))
        await self._started.wait()
        if self._dismissed.is_set():
            return
        for place in range(plan.connections):
            slot = self._churn(place) if plan.churn else self._slot(place, streams.get(place))
            self._kernel.spawn(slot, f"slot-{place}")
        self._kernel.spawn(self._tick(), "ticker")
        await self._phase(plan.warmup, self._clock())
        self._forget()
        begun, cpu = self._clock(), _cpu_seconds()
        self._counts_from = begun
        say(begin=begun)
        await self._phase(plan.duration if plan.messages is None else None, begun)
        seconds, cpu = self._clock() - begun, _cpu_seconds() - cpu
        if plan.rate is not None:
            await self._wait_for_the_rest()
        say(**self._result(seconds, cpu))
        # Until then the connections stay: with them threads of the server may end, and the CPU
        # time that they used would no longer be told.
        await self._dismissed.wait()

    async def _teach(self) -> None:
        """Open a connection, echo one message, close: before anything else, as part of the warm-up.

        The first large block that a server gives back teaches glibc's malloc to keep such blocks
        (mallopt(3), M_MMAP_THRESHOLD). Until its first client has left, a server that asks for
        large receives (asyncio) runs at half of its speed, which is not what one wants to know.
        """
        with self._errors.counted():
            async with (
                self._engine.scope(self._plan.timeout),
                self._talking(0, await self._connect()) as talk,
            ):
                assert not isinstance(talk, DatagramConversation)
                await talk.exchange(self._clock(), self._clock)
        self._connects.take()
        self._opened = 0

    async def _phase(self, seconds: float | None, begun: float) -> None:
        """Let `seconds` pass, or less when the load is over before. An open loop sends all that is
        due within them, be it late."""
        if seconds == 0:
            return
        rate = self._plan.rate
        if rate is None:
            async with self._engine.scope(seconds):
                await self._over.wait()
            return
        count = None if seconds is None else max(round(rate * seconds), 1)
        schedule = self._kernel.spawn(self._send_on_schedule(begun, rate, count), "schedule")
        async with self._engine.scope(seconds):
            await self._over.wait()
        if self._over.is_set():
            schedule.cancel()
        else:
            await schedule.join()

    async def _watch(self, preparing: Scope) -> None:
        """Start when told so, once ready; end early when told so at any other time, or when whoever
        started us is gone."""
        stdin = ReadWait(Descriptor(self._kernel, 0))
        while True:
            await suspend(stdin)
            told = os.read(0, 1)
            if not (told and self._ready and not self._started.is_set()):
                self._over.set()
            if not self._ready:
                preparing.cancel()
            if self._ready or not told:
                self._started.set()
            if not told:
                self._dismissed.set()
                return

    async def _wait_for_the_rest(self) -> None:
        """All messages of an open loop were sent; their latencies count, however long they are."""
        self._over.set()
        async with self._engine.scope(self._plan.timeout):
            while self._behind():
                await self._engine.sleep(0.001)  # between two looks
        self._unanswered += self._behind()

    def _behind(self) -> int:
        """How many messages were due, and are not answered."""
        return len(self._due) + sum(len(talk.times) for talk in self._talks)

    async def _tick(self) -> None:
        """Tell how it goes; give up connections that do not answer, and a server that is lost."""
        last_seen = self._clock()
        while True:
            await self._engine.sleep(TICK_SECONDS)
            echo = self._collect()
            say(tick=sum(echo.values()), echo=echo)
            now = self._clock()
            long_ago = now - self._plan.timeout
            if self._talks:
                last_seen = now
            elif self._plan.messages is not None and last_seen < long_ago:
                # So many messages, and nobody to send them to: this would never end.
                self._errors["given up: no connection any more"] += 1
                self._over.set()
            for talk in list(self._talks):
                if isinstance(talk, DatagramConversation):
                    self._give_up_lost(talk, long_ago)
                elif talk.waiting_since() < long_ago:
                    talk.give_up("no answer in time")
            if self._behind() > MOST_BEHIND:
                self._errors["given up: a million messages behind"] += 1
                self._over.set()

    def _collect(self) -> dict[int, int]:
        """Add what was sampled since the last time to the totals; returns that of the messages."""
        echo = self._echo.take()
        for name, counts in (
            ("echo", echo),
            ("connect", self._connects.take()),
            ("first_byte", self._first_bytes.take()),
            ("late", self._late.take()),
        ):
            self._totals.setdefault(name, collections.Counter()).update(counts)
        return echo

    def _forget(self) -> None:
        """The warm-up is over: what was measured so far does not count."""
        if self._plan.warmup:
            self._collect()
            connects = self._totals["connect"]
            self._totals = {} if self._plan.churn else {"connect": connects}
            self._errors.clear()
            self._unanswered = 0
            self._opened = len(self._talks)

    def _result(self, seconds: float, cpu: float) -> dict[str, Any]:
        """All that was measured: seconds, and CPU time; connections opened; errors by kind;
        messages never answered; latencies by bucket: of the messages, of connecting, of the first
        byte of an answer, and how late an open loop's messages were sent."""
        self._collect()
        return {
            "end": seconds,
            "cpu": cpu,
            "messages": sum(self._totals["echo"].values()),
            "opened": self._opened,
            "errors": self._errors,
            "unanswered": self._unanswered,
            **self._totals,
        }

    # -- connections ---------------------------------------------------------------------------

    async def _open_all(self, streams: dict[int, Way]) -> None:
        """Put there the first connection of each slot that could be opened."""
        places = iter(range(self._plan.connections))

        async def open_some(places: Iterator[int]) -> None:
            for place in places:
                with self._errors.counted():
                    streams[place] = await self._connect()

        async with task_group() as group:
            for _ in range(CONNECTING_AT_ONCE):
                group.spawn(open_some(places))

    async def _connect(self) -> Way:
        """Connect; with TLS, that takes until its handshake is done."""
        begun = self._clock()
        if self._plan.address.kind == "udp":
            datagrams = datagrams_to(self._engine, self._addresses)
            self._opened += 1
            return datagrams
        async with self._engine.scope(self._plan.timeout) as scope:
            stream = await self._connect_to_any()
            if self._context is not None:
                stream = await self._with_tls(stream)
        if scope.fired:
            raise Fault("no connection in time")
        self._connects.add(self._clock() - begun)
        self._opened += 1
        return stream

    async def _with_tls(self, stream: Stream) -> Stream:
        from anysock.streams.tls import TlsStream

        assert self._context is not None
        hostname = self._plan.address.server_name
        tls = TlsStream(stream, self._context, server_side=False, hostname=hostname)
        try:
            await tls.handshake()
        except TlsError as error:
            await tls.close()
            raise Fault(str(error)) from None
        except BaseException:
            tls.abort()
            await tls.close()
            raise
        return tls

    async def _connect_to_any(self) -> Stream:
        """Connect to the address that has answered before; the first time, and when it refuses or
        is silent, to the first that answers."""
        if self._answered is not None:
            alone = len(self._addresses) == 1
            async with self._engine.scope(None if alone else ATTEMPT_DELAY_SECONDS):
                try:
                    return await self._engine.connect(*self._answered)
                except OSError:
                    if alone:
                        raise
        self._answered, stream = await connect_to_any(self._engine, self._addresses)
        return stream

    @contextlib.asynccontextmanager
    async def _talking(self, place: int, stream: Way) -> AsyncIterator[Talk]:
        """A conversation over `stream`, on the books as long as the block lasts."""
        number = (self._number + place * self._plan.processes) % PATTERNS
        size = self._plan.size
        if number not in self._patterns:
            self._patterns[number] = pattern_of(number, size, self._plan.lines)
        pattern = self._patterns[number]
        talk: Talk
        if isinstance(stream, Datagrams):
            talk = DatagramConversation(stream, number, size, self._errors)
        elif isinstance(stream, NonblockingStream):
            talk = Conversation(self._kernel, stream, pattern, size)
        else:
            talk = StreamConversation(self._kernel, stream, pattern, size)
        self._talks[talk] = None
        try:
            yield talk
        finally:
            del self._talks[talk]
            if talk in self._ring:
                self._ring.remove(talk)
            lost = len(talk.times) or talk.sent != math.inf
            self._unanswered += lost
            self._settle(lost)
            await talk.close(self._plan.reset)

    # -- a connection for each slot, as long as it holds ---------------------------------------

    async def _slot(self, place: int, stream: Way | None) -> None:
        while True:
            with self._errors.counted():
                if stream is None:
                    await self._engine.sleep(RETRY_SECONDS)
                    stream = await self._connect()
                async with self._talking(place, stream) as talk:
                    await self._converse(talk)
            stream = None

    async def _converse(self, talk: Talk) -> None:
        """Send and receive on one connection, until it ends."""
        if isinstance(talk, DatagramConversation):
            await self._exchange_datagrams(talk)
        else:
            await self._exchange(talk)

    async def _exchange(self, talk: Conversation | StreamConversation) -> None:
        plan = self._plan
        add = self._echo.add

        def take(count: int, now: float) -> None:
            for _ in range(count):
                self._count(talk.times.popleft(), now)

        def take_and_send(count: int, now: float) -> None:
            for _ in range(count):
                add(now - talk.times.popleft())
            self._settle(count)
            talk.send(self._allowed(count), now)

        if plan.rate is not None:
            self._ring.append(talk)
            await talk.receive(self._clock, take)
        elif plan.depth == 1 and plan.size <= SMALL and plan.messages is None:
            await talk.ping_pong(self._clock, add)
        else:
            talk.send(self._allowed(plan.depth), self._clock())
            await talk.receive(self._clock, take_and_send)

    async def _exchange_datagrams(self, talk: DatagramConversation) -> None:
        def take(due: float, now: float) -> None:
            self._count(due, now)
            if self._plan.rate is None:
                talk.send(self._allowed(1), now)

        if self._plan.rate is not None:
            self._ring.append(talk)
        else:
            talk.send(self._allowed(self._plan.depth), self._clock())
        await talk.receive(self._clock, take)

    def _give_up_lost(self, talk: DatagramConversation, before: float) -> None:
        """What was due before that time is lost. In a closed loop, others take its place."""
        lost = talk.expire(before)
        self._unanswered += lost
        self._settle(lost)
        if lost and self._plan.rate is None and not self._over.is_set():
            talk.send(self._allowed(lost), self._clock())

    def _allowed(self, count: int) -> int:
        """How many of `count` more messages may be sent."""
        if self._remaining is None:
            return count
        allowed = min(count, self._remaining)
        self._remaining -= allowed
        return allowed

    def _count(self, due: float, now: float) -> None:
        """A message that was due then is answered now. In an open loop, one of the warm-up does not
        count, even if its answer was late."""
        if self._plan.rate is None or due >= self._counts_from:
            self._echo.add(now - due)
        self._settle(1)

    def _settle(self, count: int) -> None:
        """`count` messages have been answered, or never will be."""
        self._settled += count
        if self._settled == self._plan.messages:
            self._over.set()

    # -- an open loop --------------------------------------------------------------------------

    async def _send_on_schedule(self, begun: float, rate: float, count: int | None) -> None:
        """Send, of `count` messages of the load (None: of as many as are allowed), every one whose
        number is ours."""
        number = self._number
        while count is None or number < count:
            due = begun + number / rate
            while (now := self._clock()) < due:
                await self._engine.sleep(due - now)
            if not self._allowed(1):
                return
            number += self._plan.processes
            self._late.add(now - due)
            self._send_one(due)

    def _send_one(self, due: float) -> None:
        if self._plan.churn:
            self._due.append(due)
            if self._idle:
                self._idle.popleft().set()
        elif self._ring:
            self._ring[0].send(1, due)
            self._ring.rotate(-1)
        else:
            self._errors["no connection to send on"] += 1
            self._unanswered += 1
            self._settle(1)

    # -- connections that end after some messages ----------------------------------------------

    async def _churn(self, place: int) -> None:
        assert self._plan.churn is not None
        while True:
            due = await self._next_due()
            with self._errors.counted():
                try:
                    stream = await self._connect()
                except BaseException:
                    self._unanswered += 1
                    self._settle(1)
                    raise
                async with self._talking(place, stream) as talk:
                    assert not isinstance(talk, DatagramConversation)
                    for number in range(self._plan.churn):
                        if number:
                            due = await self._next_due()
                        elif self._plan.rate is None:
                            due = self._clock()  # connecting is told apart
                        first, now = await talk.exchange(due, self._clock)
                        if not number:
                            self._first_bytes.add(first)
                        self._count(due, now)

    async def _next_due(self) -> float:
        """When the next message of a slot is due: at once in a closed loop; else wait for one."""
        if self._plan.rate is None:
            if not self._allowed(1):
                await Event(self._kernel).wait()  # for ever; this load is over
            return self._clock()
        while not self._due:
            more = Event(self._kernel)
            self._idle.append(more)
            await more.wait()
        return self._due.popleft()


def say(**what: Any) -> None:
    """Write a line of JSON for whoever started us."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Do what the plan in the arguments says: ``worker PLAN NUMBER``."""
    plan, number = Plan.from_json(sys.argv[1]), int(sys.argv[2])
    raise_descriptor_limit()
    engine = _LoadEngine(precise=plan.rate is not None)
    try:
        engine.run(_Worker(engine, plan, number).run())
    except StartError as error:
        say(failed=str(error))
        sys.exit(1)
    except MemoryError:
        say(failed="this machine has not enough memory for that")
        sys.exit(1)
    except BrokenPipeError:  # whoever has started us is gone, and nobody is left to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
