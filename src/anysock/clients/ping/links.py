"""The way to the server: a connection, or a UDP socket."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from anysock.clients.echo_check import Answer, EchoCheck, Verdict
from anysock.clients.ping.output import Report
from anysock.engines.base import Datagrams, Event
from anysock.engines.current import current_engine
from anysock.errors import AnysockError, QueueClosed, StreamClosed
from anysock.streams.connection import Connection
from anysock.tasks import runtime
from anysock.tasks.queues import Queue

# As telnet(1) says it.
_CLOSED = "Connection closed by foreign host"


@dataclass
class _Probe:
    """A probe that waits for its answer."""

    done: Event
    sent: float = 0.0
    error: OSError | None = None


class Link:
    """A task that sends probes of `size` bytes, and one that receives their answers. `connect_took`
    says how long it took to open the link, in seconds."""

    def __init__(self, report: Report, size: int, connect_took: float) -> None:
        #: Whether it can't be used any more.
        self.broken = False
        self._report = report
        self._connect_took = connect_took
        self._now = current_engine().now
        self._check = EchoCheck(size)
        self._waiting: dict[int, _Probe] = {}
        self._outbox: Queue[int] = Queue(max_items=1000)
        self._tasks = [
            runtime.spawn(self._send(), name="ping-sender"),
            runtime.spawn(self._receive(), name="ping-receiver"),
        ]

    async def probe(self, number: int) -> None:
        """Send a probe; return when there is an answer, of whatever kind. Raises OSError when the
        connection breaks before."""
        probe = self._waiting[number] = _Probe(current_engine().event())
        try:
            await self._outbox.put(number)
            await probe.done.wait()
        except QueueClosed:
            probe.error = ConnectionResetError(errno.ECONNRESET, _CLOSED)
        finally:
            self._waiting.pop(number, None)
        if probe.error is not None:
            raise probe.error

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
            if number in self._waiting:
                payload = self._check.sent(number)
                self._waiting[number].sent = self._now()
                try:
                    await self._send_one(payload)
                except (OSError, AnysockError):
                    return  # the receiver finds out as well, and reports it

    async def _send_one(self, payload: bytes) -> None:
        raise NotImplementedError

    async def _receive(self) -> None:
        raise NotImplementedError

    def _take(self, answer: Answer, now: float) -> None:
        """Report an answer, and wake the probe that waits for it."""
        probe = self._waiting.pop(answer.number, None)
        if answer.verdict in (Verdict.OK, Verdict.REORDERED) and probe is not None:
            self._report.answered(answer.number, now - probe.sent, self._connect_took)
        if answer.verdict is not Verdict.OK:
            self._report.bad_answer(answer)
        if probe is not None:
            probe.done.set()

    def _fail(self, error: OSError) -> None:
        """No probe that waits will be answered."""
        for probe in self._waiting.values():
            probe.error = error
            probe.done.set()


class StreamLink(Link):
    """A connection; `shared` by all probes, or opened for one."""

    def __init__(
        self, report: Report, size: int, connect_took: float, connection: Connection, shared: bool
    ) -> None:
        self._connection = connection
        self._shared = shared
        super().__init__(report, size, connect_took)

    async def close(self) -> None:
        await super().close()
        await self._connection.close()

    async def _send_one(self, payload: bytes) -> None:
        await self._connection.send_all(payload)

    async def _receive(self) -> None:
        error: OSError
        try:
            async for data in self._connection:
                now = self._now()
                for answer in self._check.received(data):
                    self._take(answer, now)
            error = ConnectionResetError(errno.ECONNRESET, _CLOSED)
        except OSError as broken:
            error = broken
        for answer in self._check.ended():
            self._take(answer, self._now())
        self.broken = True
        self._outbox.close()
        # The probes that wait report it. If none does, this does, except where the connection was
        # opened for one probe, which has its answer.
        if not self._waiting and self._shared:
            self._report.broken(error)
        self._fail(error)


class DatagramLink(Link):
    """A UDP socket. It never breaks: a datagram may be lost, and the next probe tries again."""

    def __init__(
        self, report: Report, size: int, connect_took: float, datagrams: Datagrams
    ) -> None:
        self._datagrams = datagrams
        super().__init__(report, size, connect_took)

    async def close(self) -> None:
        await super().close()
        self._datagrams.close()

    async def _send_one(self, payload: bytes) -> None:
        try:
            self._datagrams.send(payload)
        except OSError as error:
            self._fail(error)  # the system refuses it

    async def _receive(self) -> None:
        while True:
            try:
                datagram = await self._datagrams.recv()
            except StreamClosed:
                return
            except OSError as error:
                self._fail(error)  # another machine has refused one (ICMP)
            else:
                self._take(self._check.datagram(datagram.data), self._now())
