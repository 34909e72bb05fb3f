"""Serving datagrams: what befalls the socket, and that nothing ends the service but its close."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, cast

import pytest

from anysock.engines.base import Control, Datagram, Datagrams, Engine, SockAddr
from anysock.engines.posix.machine import MACHINE
from anysock.errors import StreamClosed
from anysock.options.serve import ServeOptions
from anysock.server.udp.service import UdpService
from anysock.telemetry.counters import Counters
from anysock.telemetry.events import EventGroup
from tests.told import Told

SOURCE = ("192.0.2.9", 40000)


class FakeEngine:
    machine = MACHINE

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds


class FakeDatagrams:
    """Receives what the test has prepared, and then is closed."""

    local = ("192.0.2.1", 7000)

    def __init__(self, *coming: Datagram | OSError, room: int = 10_000) -> None:
        self.coming = list(coming)
        self.room = room
        self.sent: list[tuple[bytes, SockAddr | None, tuple[Control, ...]]] = []

    async def recv(self) -> Datagram:
        if not self.coming:
            raise StreamClosed("closed")
        came = self.coming.pop(0)
        if isinstance(came, OSError):
            raise came
        return came

    def send(self, data: bytes, to: SockAddr | None, origin: tuple[Control, ...]) -> None:
        if len(self.sent) >= self.room:
            raise BlockingIOError(errno.EAGAIN, "no room")
        self.sent.append((data, to, origin))


def refused(told: Told) -> list[tuple[str, int]]:
    """Why datagrams were refused, and how many more were."""
    return [(reason, left_out) for reason, _, left_out in told.of("datagrams_refused")]


def serve(
    datagrams: FakeDatagrams, *, echo: bool = True, **options: Any
) -> tuple[FakeEngine, Counters, Told]:
    engine, counters, told = FakeEngine(), Counters(), Told()
    service = UdpService(
        cast(Engine, engine),
        [cast(Datagrams, datagrams)],
        ServeOptions(**options),
        echo=echo,
        events=EventGroup(counters, told),
    )
    asyncio.run(service.serve(service.endpoints[0]))
    return engine, counters, told


def test_an_answer_is_the_request_to_its_source_from_where_it_went():
    origin = ((0, 8, b"from there"),)
    datagrams = FakeDatagrams(Datagram(b"hello", SOURCE, "192.0.2.1", False, origin))
    _, counters, _ = serve(datagrams)
    assert datagrams.sent == [(b"hello", SOURCE, origin)]
    assert counters.datagrams_received == counters.datagrams_sent == 1
    assert counters.datagram_bytes_received == counters.datagram_bytes_sent == 5


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.ENOBUFS, errno.ECONNREFUSED])
def test_no_error_ends_it_or_makes_it_spin(number):
    errors = [OSError(number, "trouble") for _ in range(20)]
    datagrams = FakeDatagrams(*errors, Datagram(b"still there", SOURCE))
    engine, _, _ = serve(datagrams)
    assert [data for data, _, _ in datagrams.sent] == [b"still there"]
    assert engine.seconds >= 20 * 0.1


def test_what_can_not_be_sent_is_counted():
    datagrams = FakeDatagrams(*[Datagram(b"x", SOURCE)] * 5, room=2)
    _, counters, told = serve(datagrams)
    assert counters.datagrams_sent == 2
    assert counters.refused == {"not_sent": 3}
    assert refused(told) == [("not sent", 0)]


def test_refusals_are_told_once_a_second_and_a_reason_with_how_many_were_not():
    flood = [Datagram(b"x", ("192.0.2.9", 7)), Datagram(b"x", ("224.0.0.1", 40000))] * 100
    trouble = [OSError(errno.ENOMEM, "no memory")] * 11  # lets more than a second pass
    datagrams = FakeDatagrams(*flood, *trouble, Datagram(b"x", ("192.0.2.9", 7)))
    _, counters, told = serve(datagrams)
    assert refused(told) == [
        ("from a reserved port", 0),
        ("from no host", 0),
        ("from a reserved port", 99),
    ]
    assert counters.refused == {"reserved_port": 101, "no_host": 100}
    assert datagrams.sent == []


def test_the_others_get_their_turn():
    datagrams = FakeDatagrams(*[Datagram(b"x", SOURCE)] * 1000)
    engine, _, _ = serve(datagrams, udp_rate=1e9, udp_total_rate=1e9)
    assert len(datagrams.sent) == 1000
    assert engine.slept == [0] * (1000 // 64)


def test_discard_answers_nobody_and_refuses_nobody():
    datagrams = FakeDatagrams(*[Datagram(b"hello", ("192.0.2.9", 7))] * 3)
    _, counters, _ = serve(datagrams, echo=False)
    assert (counters.datagrams_received, counters.datagrams_sent) == (3, 0)
    assert not counters.refused
    assert datagrams.sent == []


def test_the_options_allow_and_deny_are_for_datagrams_too():
    asked = [Datagram(b"x", (f"192.0.2.{host}", 40000)) for host in (1, 9, 200)]
    datagrams = FakeDatagrams(*asked)
    _, counters, _ = serve(datagrams, allow="192.0.2.0/25", deny="192.0.2.9")
    assert [to for _, to, _ in datagrams.sent] == [("192.0.2.1", 40000)]
    assert counters.refused == {"denied": 2}
