"""Round trips through an echo server, one by one, told as ping(8) tells them."""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anysock.clients.echo_check import Answer, EchoCheck, Verdict
from anysock.clients.percentiles import bears
from anysock.engines.base import Datagrams, Event, Task
from anysock.engines.current import current_engine
from anysock.engines.posix.machine import MACHINE
from anysock.errors import AnysockError, Cancelled, QueueClosed, StreamClosed
from anysock.net.addresses import Address, resolve
from anysock.net.printable import printable
from anysock.options.units import format_duration
from anysock.streams.connection import Connection
from anysock.tasks import runtime
from anysock.tasks.queues import Queue

if TYPE_CHECKING:
    import ssl

# Percentiles are of the latest so many round trips: an endless run has an end to its memory.
MOST_SAMPLES = 100_000

# What is told of the round trips, in percent, once there are enough of them.
_PERCENTILES = (50, 99)

# As telnet(1) says it.
_CLOSED = "Connection closed by foreign host"

_SAYS = {
    Verdict.LATE: "late answer",
    Verdict.REORDERED: "reordered answer",
    Verdict.DUPLICATE: "duplicate answer",
    Verdict.CORRUPT: "corrupt answer",
    Verdict.SHORT: "short answer",
}


@dataclass(frozen=True)
class Plan:
    """What to send, and when. Times in seconds, sizes in bytes."""

    address: Address
    #: None: until it is interrupted.
    count: int | None = None
    #: Between the sending of two probes; 0: the next is sent when the last is answered.
    interval: float = 1.0
    size: int = 64
    #: How long an answer may take.
    timeout: float = 5.0
    #: Each probe opens a connection of its own.
    connect: bool = False
    #: Whom to trust at a ``tls://`` address; None: whom the system does.
    tls: ssl.SSLContext | None = None


@dataclass
class Times:
    """Round trips in seconds: exact minimum, mean, maximum and deviation of all of them, and
    percentiles of the latest `MOST_SAMPLES`."""

    count: int = 0
    lowest: float = math.inf
    highest: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0
    _latest: collections.deque[float] = field(
        default_factory=lambda: collections.deque(maxlen=MOST_SAMPLES)
    )

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.count += 1
        self.lowest = min(self.lowest, seconds)
        self.highest = max(self.highest, seconds)
        self._sum += seconds
        self._squares += seconds * seconds
        self._latest.append(seconds)

    def percentile(self, percent: float) -> float:
        """The shortest time that so many percent do not exceed (nearest rank)."""
        ordered = sorted(self._latest)
        return ordered[max(math.ceil(percent / 100 * len(ordered)), 1) - 1]

    def summary(self) -> dict[str, float | None]:
        """min, avg, max, mdev (the standard deviation), p50 and p99 (None where there are too few
        samples for it); empty when there are none."""
        if not self.count:
            return {}
        mean = self._sum / self.count
        return {
            "min": self.lowest,
            "avg": mean,
            "max": self.highest,
            "mdev": math.sqrt(max(self._squares / self.count - mean * mean, 0.0)),
            **{
                f"p{percent}": self.percentile(percent) if bears(self.count, percent) else None
                for percent in _PERCENTILES
            },
        }


@dataclass
class Summary:
    """How a run of probes went."""

    sent: int = 0
    received: int = 0
    #: Neither answered nor lost when it was interrupted.
    waiting: int = 0
    #: By kind: corrupt, late, … (see `Verdict`).
    bad: collections.Counter[str] = field(default_factory=collections.Counter)
    #: Connections that could not be opened, or broke, by what was wrong.
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    rtt: Times = field(default_factory=Times)
    connect: Times = field(default_factory=Times)
    seconds: float = 0.0

    @property
    def lost(self) -> int:
        """Probes without a right answer in time."""
        return self.sent - self.received - self.waiting

    @property
    def ok(self) -> bool:
        """Whether there were answers, and no probe without: once, right, in time."""
        return self.received > 0 and not self.lost and not self.bad

    def to_dict(self) -> dict[str, Any]:
        """For JSON; times in seconds."""
        return {
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "waiting": self.waiting,
            "bad": dict(self.bad),
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "rtt": self.rtt.summary(),
            "connect": self.connect.summary(),
        }

    def lines(self, address: str) -> list[str]:
        """What is printed at the end."""
        share = 100 * self.lost / max(self.lost + self.received, 1)
        waiting = f"{self.waiting} without an answer yet, " if self.waiting else ""
        told = [f"--- {address} ping statistics ---"]
        told.append(
            f"{self.sent} sent, {self.received} received, {self.lost} lost ({share:.3g} %), "
            f"{waiting}time {self.seconds * 1e3:.0f} ms"
        )
        told += [f"{count} {kind}" for kind, count in sorted((self.bad + self.errors).items())]
        for name, times in (("connect", self.connect), ("rtt", self.rtt)):
            if found := times.summary():
                four = _each(found, ("min", "avg", "max", "mdev"))
                known = [key for key in map("p{}".format, _PERCENTILES) if found[key] is not None]
                more = f", {_each(found, known)}" if known else ""
                told.append(f"{name} {four}{more}")
        return told


def _each(found: dict[str, float | None], keys: Sequence[str]) -> str:
    """``min/max = 1.000/2.000 ms``, of `keys`, all of which are known."""
    values = "/".join(f"{(found[key] or 0.0) * 1e3:.3f}" for key in keys)
    return f"{'/'.join(keys)} = {values} ms"


def ping(plan: Plan, say: Callable[[str], object]) -> Summary:
    """Send the probes of `plan`; ``say(line)`` is called with each line to print.

    SIGINT and SIGTERM end it early. Raises `StartError` for a name that is not known, and what
    `say` raises, such as BrokenPipeError.
    """
    resolve(plan.address, MACHINE, passive=False)
    return runtime.run(_Ping(plan, say).run)


class _Ping:
    def __init__(self, plan: Plan, say: Callable[[str], object]) -> None:
        self.plan = plan
        self._print = say
        self.where = str(plan.address).removeprefix("tcp://")
        self.summary = Summary()
        self._link: _AnyLink | None = None
        self._opening: Event | None = None
        self._unheard: OSError | None = None
        self._stopped = False

    def say(self, line: str) -> None:
        """Print `line`. Where that fails nobody listens any more, and the run comes to its end."""
        if self._unheard is None:
            try:
                self._print(line)
            except OSError as error:
                # Raised here, it would be taken for an error of the connection.
                self._unheard = error
                self._stop()

    def _stop(self) -> None:
        """Let no more probes be sent. Once: what comes after is not to be interrupted."""
        if not self._stopped:
            self._stopped = True
            self._me.cancel()

    async def run(self) -> Summary:
        engine, size = current_engine(), self.plan.size
        self.now = engine.now
        kind = self.plan.address.scheme
        self._print(f"PING {self.where} ({kind}) {size} byte{'s' * (size != 1)} of data")
        begun = self.now()
        probes: dict[Task[Any], None] = {}
        self._me = engine.current_task()
        with engine.watch_signals(
            (signal.SIGINT, signal.SIGTERM), lambda _: self._stop(), _exit_at_once
        ):
            with contextlib.suppress(Cancelled):
                await self._send_all(probes, begun)
            self.summary.seconds = self.now() - begun
            for probe in probes:
                if not probe.done:
                    probe.cancel()
                    self.summary.waiting += 1
            if self._link is not None:
                await self._link.close()
        if self._unheard is not None:
            raise self._unheard
        for line in self.summary.lines(self.where):
            self._print(line)
        return self.summary

    async def _send_all(self, probes: dict[Task[Any], None], begun: float) -> None:
        """Send each probe when it is due: how long the answers take does not move the next."""
        plan = self.plan
        numbers = itertools.count(1) if plan.count is None else range(1, plan.count + 1)
        for number in numbers:
            if plan.interval:
                await runtime.sleep(max(begun + (number - 1) * plan.interval - self.now(), 0.0))
            for done in [probe for probe in probes if probe.done]:
                del probes[done]
            self.summary.sent += 1
            probe = runtime.spawn(self._probe(number), name=f"probe-{number}")
            probes[probe] = None
            if not plan.interval:
                await probe.join()
        for probe in list(probes):
            await probe.join()

    async def _probe(self, number: int) -> None:
        link = None
        try:
            async with runtime.timeout(self.plan.timeout):
                if self.plan.connect:
                    link = await self._open()
                    await link.ask(number)
                else:
                    link = await self._shared()
                    await link.ask(number)
        except TimeoutError:
            self.say(
                f"no answer from {self.where}: seq={number} "
                f"(within {format_duration(self.plan.timeout)})"
            )
            if link is not None:
                link.give_up(number)
        except OSError as error:
            self.tell_broken(error, f": seq={number}")
            if link is not None:
                link.give_up(number)
        finally:
            if link is not None and self.plan.connect:
                await link.close()

    def tell_broken(self, error: OSError, cost: str = "") -> None:
        """A connection could not be opened, or broke; tell why, and what that has cost."""
        reason = printable(error.strerror or str(error))
        self.summary.errors[reason] += 1
        self.say(f"{reason}: {self.where}{cost}")

    async def _open(self) -> _AnyLink:
        begun = self.now()
        if self.plan.address.kind == "udp":
            datagrams = await runtime.connect_datagrams(self.plan.address)
            return _DatagramLink(self, datagrams, self.now() - begun)
        connection = await runtime.connect(self.plan.address, tls=self.plan.tls)
        took = self.now() - begun
        self.summary.connect.add(took)
        return _Link(self, connection, took)

    async def _shared(self) -> _AnyLink:
        """The connection of all probes; opened by the first, and again when it has broken."""
        while self._opening is not None:
            await self._opening.wait()
        if self._link is None or self._link.broken:
            self._opening = current_engine().event()
            try:
                if self._link is not None:
                    await self._link.close()
                self._link = await self._open()
            finally:
                self._opening.set()
                self._opening = None
        return self._link


@dataclass
class _Asked:
    """A probe that waits for its answer."""

    done: Event
    sent: float = 0.0
    error: OSError | None = None


class _AnyLink:
    """The way to the server: a task that sends what is asked, and one that receives what comes."""

    def __init__(self, ping: _Ping, connect_took: float) -> None:
        self.broken = False
        self._ping = ping
        self._connect_took = connect_took
        self._check = EchoCheck(ping.plan.size)
        self._asked: dict[int, _Asked] = {}
        self._outbox: Queue[int] = Queue(max_items=1000)
        self._tasks = [
            runtime.spawn(self._send(), name="ping-sender"),
            runtime.spawn(self._receive(), name="ping-receiver"),
        ]

    async def ask(self, number: int) -> None:
        """Send a probe; return when there is an answer, of whatever kind. Raises OSError when the
        connection breaks before."""
        asked = self._asked[number] = _Asked(current_engine().event())
        try:
            await self._outbox.put(number)
            await asked.done.wait()
        except QueueClosed:
            asked.error = ConnectionResetError(errno.ECONNRESET, _CLOSED)
        finally:
            self._asked.pop(number, None)
        if asked.error is not None:
            raise asked.error

    def give_up(self, number: int) -> None:
        """Nobody waits for the answer any more."""
        self._check.give_up(number)

    async def close(self) -> None:
        """Close it, and end its tasks."""
        for task in self._tasks:
            task.cancel()

    async def _send(self) -> None:
        async for number in self._outbox:
            # It may have been given up while others were in its way.
            if number in self._asked:
                payload = self._check.sent(number)
                self._asked[number].sent = self._ping.now()
                try:
                    await self._send_one(payload)
                except (OSError, AnysockError):
                    return  # who receives finds out as well, and tells

    async def _send_one(self, payload: bytes) -> None:
        raise NotImplementedError

    async def _receive(self) -> None:
        raise NotImplementedError

    def _take(self, answer: Answer, now: float) -> None:
        """Tell an answer, count it, and wake whoever asked."""
        ping, number = self._ping, answer.number
        asked = self._asked.pop(number, None)
        if answer.verdict in (Verdict.OK, Verdict.REORDERED) and asked is not None:
            took = now - asked.sent
            ping.summary.received += 1
            ping.summary.rtt.add(took)
            connect = f" connect={self._connect_took * 1e3:.3f} ms" if ping.plan.connect else ""
            ping.say(
                f"{ping.plan.size} bytes from {ping.where}: seq={number}{connect} "
                f"time={took * 1e3:.3f} ms"
            )
        if answer.verdict is not Verdict.OK:
            ping.summary.bad[answer.verdict.value] += 1
            detail = f" ({answer.detail})" if answer.detail else ""
            ping.say(f"{_SAYS[answer.verdict]} from {ping.where}: seq={number}{detail}")
        if asked is not None:
            asked.done.set()


class _Link(_AnyLink):
    """A connection."""

    def __init__(self, ping: _Ping, connection: Connection, connect_took: float) -> None:
        self._connection = connection
        super().__init__(ping, connect_took)

    async def close(self) -> None:
        await super().close()
        await self._connection.close()

    async def _send_one(self, payload: bytes) -> None:
        await self._connection.send_all(payload)

    async def _receive(self) -> None:
        error: OSError
        try:
            async for data in self._connection:
                now = self._ping.now()
                for answer in self._check.received(data):
                    self._take(answer, now)
            error = ConnectionResetError(errno.ECONNRESET, _CLOSED)
        except OSError as broken:
            error = broken
        for answer in self._check.ended():
            self._take(answer, self._ping.now())
        self.broken = True
        self._outbox.close()
        # Else each probe that it has cost tells. Whose own connection it was has its answer.
        if not self._asked and not self._ping.plan.connect:
            self._ping.tell_broken(error)
        for asked in self._asked.values():
            asked.error = error
            asked.done.set()


class _DatagramLink(_AnyLink):
    """A UDP socket. It never breaks: what is lost is lost, and the next probe tries again."""

    def __init__(self, ping: _Ping, datagrams: Datagrams, connect_took: float) -> None:
        self._datagrams = datagrams
        super().__init__(ping, connect_took)

    async def close(self) -> None:
        await super().close()
        self._datagrams.close()

    async def _send_one(self, payload: bytes) -> None:
        try:
            self._datagrams.send(payload)
        except OSError as error:
            self._fail(error)

    async def _receive(self) -> None:
        while True:
            try:
                datagram = await self._datagrams.recv()
            except StreamClosed:
                return
            except OSError as error:
                self._fail(error)
            else:
                self._take(self._check.datagram(datagram.data), self._ping.now())

    def _fail(self, error: OSError) -> None:
        """The system has refused a probe, or tells that another refused it (ICMP)."""
        for asked in self._asked.values():
            asked.error = error
            asked.done.set()


def _exit_at_once(signum: int) -> None:
    os._exit(128 + signum)
