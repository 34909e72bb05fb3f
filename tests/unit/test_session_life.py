"""A connection from accept to close: what is told of it, and what it gives back."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from anysock.engines.base import Binding
from anysock.engines.current import current_engine
from anysock.errors import NotServed
from anysock.options.serve import ServeOptions
from anysock.server.admission import OwnSlots
from anysock.server.gate import AdmissionGate
from anysock.server.handshake import Handshake
from anysock.server.phase import Life, Phase
from anysock.server.process import OwnProcess
from anysock.server.server import Server
from anysock.server.session import Desk, Session, Sessions
from anysock.streams.connection import Connection
from anysock.telemetry.counters import Counters
from anysock.telemetry.events import CloseReason, EventGroup, Events
from tests.no_socket import NoSocket
from tests.simulation import run_exactly

BINDING = Binding("127.0.0.1:0")
PEER = ("192.0.2.1", 5000)


class Told(Events):
    """What is told of connections, in order."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.ends: list[CloseReason] = []
        self.peers: list[Any] = []
        self.lasted: list[float | None] = []

    def connection_accepted(self, connection, at):
        self.words.append("accepted")

    def connection_opened(self, connection):
        self.words.append("opened")
        self.peers.append(connection.peer)

    def handler_failed(self, connection, error):
        self.words.append("failed")

    def connection_closed(self, connection, reason, error):
        self.words.append("closed")
        self.ends.append(reason)
        self.lasted.append(connection.lasted)


class Wire(NoSocket):
    """A stream on which `data` comes, and then its end."""

    tls = None
    sending = receiving = False
    held = 0

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.peer = PEER
        self.local = ("192.0.2.9", 7)
        self.bytes_received = self.bytes_sent = 0
        self.lost: OSError | None = None
        self.end_received = False
        self.aborted = False
        self.closed = 0

    def has_come(self) -> bool:
        return False

    async def recv(self, max_bytes: int | None = None) -> bytes:
        data, self.data = self.data[:max_bytes], self.data[max_bytes or len(self.data) :]
        self.bytes_received += len(data)
        self.end_received = not data
        return data

    async def send_all(self, data: bytes) -> None:
        self.bytes_sent += len(data)

    def abort(self) -> None:
        self.aborted = True

    async def close(self) -> None:
        self.closed += 1


class Hall:
    """A server without listeners, for one connection at a time."""

    def __init__(self, handler: Callable[[Connection], Any], **options: Any) -> None:
        engine = current_engine()
        self.told, self.counters = Told(), Counters()
        self.life, self.slots = Life(), OwnSlots(2)
        self.life.advance(Phase.STARTING)
        self.life.advance(Phase.LISTENING)
        events = EventGroup(self.counters, self.told)
        chosen = ServeOptions(per_source=1, **options)
        self.gate = AdmissionGate(engine, self.life, self.slots, chosen, events)
        self.desk = Desk(
            server=Server(handler, chosen),
            engine=engine,
            events=events,
            gate=self.gate,
            handshake=Handshake(engine, chosen, None),
            handler=handler,
            sessions=Sessions(),
            process=OwnProcess(list),
        )

    async def visit(self, wire: Wire) -> None:
        """One connection, from accept to close."""
        session = Session(Connection(wire), self.desk, current_engine().now())  # type: ignore[arg-type]
        await session.enter(BINDING, False)
        await self.desk.sessions.until_none(self.desk.engine)

    def check_empty(self) -> None:
        """Nothing is held of those that have left, and as many have left as came."""
        assert self.slots.taken == 0
        assert not self.gate._admission._sources
        assert not self.desk.sessions.all()
        assert not self.counters.open
        assert self.counters.accepted == sum(self.counters.closed.values())


async def echo(connection: Connection) -> None:
    await current_engine().sleep(2)
    while data := await connection.recv():
        await connection.send_all(data)


def within(main: Callable[[], Any]) -> None:
    run_exactly(main())


def test_each_connection_is_told_of_once_and_leaves_nothing_behind():
    async def main():
        hall = Hall(echo)
        for count in range(1, 4):
            await hall.visit(wire := Wire(b"hello"))
            assert hall.told.words == ["accepted", "opened", "closed"] * count
            assert (wire.bytes_sent, wire.closed, wire.aborted) == (5, 1, False)
            hall.check_empty()
        assert hall.told.ends == [CloseReason.DONE] * 3
        assert hall.told.lasted == [2.0] * 3

    within(main)


def test_a_handler_that_fails_leaves_nothing_behind_either():
    async def fail(connection: Connection) -> None:
        raise ZeroDivisionError

    async def main():
        hall = Hall(fail)
        await hall.visit(Wire(b"x"))
        assert hall.told.words == ["accepted", "opened", "failed", "closed"]
        assert hall.told.ends == [CloseReason.FAILED]
        hall.check_empty()

    within(main)


def test_one_that_is_denied_takes_no_slot():
    async def main():
        hall, wire = Hall(echo, deny=["192.0.2.0/24"]), Wire()
        await hall.visit(wire)
        assert hall.told.words == ["accepted", "opened", "closed"]
        assert hall.told.ends == [CloseReason.DENIED]
        assert wire.aborted
        hall.check_empty()

    within(main)


def test_behind_a_proxy_it_is_opened_when_the_header_is_read():
    async def main():
        hall = Hall(echo, proxy_protocol="required", proxy_from=["192.0.2.0/24"])
        await hall.visit(Wire(b"PROXY TCP4 198.51.100.7 192.0.2.9 1234 7\r\nhello"))
        assert hall.told.words == ["accepted", "opened", "closed"]
        assert hall.told.peers == [("198.51.100.7", 1234)]
        hall.check_empty()
        await hall.visit(Wire(b"no header at all, but a long word\r\n"))
        assert hall.told.ends == [CloseReason.DONE, CloseReason.PROXY_HEADER]
        assert hall.told.words == ["accepted", "opened", "closed"] * 2
        hall.check_empty()

    within(main)


def test_the_client_of_a_proxy_is_judged_and_not_the_proxy():
    async def main():
        hall = Hall(
            echo, proxy_protocol="required", proxy_from=["192.0.2.0/24"], deny=["198.51.100.0/24"]
        )
        await hall.visit(Wire(b"PROXY TCP4 198.51.100.7 192.0.2.9 1234 7\r\n"))
        assert hall.told.ends == [CloseReason.DENIED]
        hall.check_empty()

    within(main)


def test_where_no_task_can_run_it_the_connection_is_reset_and_told_of_once():
    async def main():
        hall, wire = Hall(echo), Wire()

        def no_room(running, name=None):
            raise OSError(errno.EAGAIN, "no room")

        hall.desk.engine.spawn = no_room  # type: ignore[method-assign]
        with pytest.raises(NotServed):
            await hall.visit(wire)
        assert wire.aborted
        assert wire.closed == 1
        assert hall.told.words == ["accepted", "opened", "closed"]
        assert hall.told.ends == [CloseReason.ABORTED]
        hall.check_empty()

    within(main)


def test_what_fails_before_it_is_let_in_is_closed_and_not_told_of():
    async def main():
        hall, wire = Hall(echo), Wire()

        def fail(now):
            raise MemoryError

        hall.gate.take_at_once = fail  # type: ignore[method-assign]
        with pytest.raises(MemoryError):
            await hall.visit(wire)
        assert wire.aborted
        assert wire.closed == 1
        assert hall.told.words == []
        hall.check_empty()

    within(main)


def test_one_that_waits_for_room_until_the_drain_is_over_counts_as_aborted():
    async def main():
        hall, wire = Hall(echo), Wire()
        assert [hall.slots.take(), hall.slots.take()] == [True, True]
        engine = current_engine()

        async def drain() -> None:
            await engine.sleep(0.5)
            for phase in (Phase.DRAINING, Phase.CLOSING):
                assert hall.life.advance(phase)
            hall.gate.notify()

        draining = engine.spawn(drain())
        await hall.visit(wire)
        await draining.join()
        hall.slots.taken = 0
        assert hall.told.ends == [CloseReason.ABORTED]
        assert hall.desk.sessions.aborted == 1
        hall.check_empty()

    within(main)
