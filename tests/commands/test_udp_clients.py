"""talk, ping and load over UDP, against the real server, and against some that do wrong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.commands.running import anysock
from tests.contract.processes.test_udp import free_udp_port

Answer = Callable[[int, bytes], list[bytes]]


@contextlib.contextmanager
def udp_server(answers: Answer) -> Iterator[str]:
    """A server that answers the datagram of that number, from 0, with some or none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            # Each processor has a queue of what is sent on it, and who moves to another one in
            # between may overtake himself.
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            number = 0
            while True:
                data, source = sock.recvfrom(70_000)
                if data == b"end":
                    return
                for answer in answers(number, data):
                    sock.sendto(answer, source)
                number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        address = sock.getsockname()
        try:
            yield f"udp://127.0.0.1:{address[1]}"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"end", address)
            thread.join()


def echo(_number: int, data: bytes) -> list[bytes]:
    return [data]


# -- talk ----------------------------------------------------------------------------------------


def test_talk_sends_each_line_and_shows_each_answer():
    with udp_server(lambda _, data: [data.upper()]) as address:
        done = anysock("talk", address, typed="one\ntwo\n")
    assert done.stdout == "ONE\nTWO\n"


def test_talk_says_what_is_missing():
    with udp_server(lambda number, data: [data] if number else []) as address:
        done = anysock("talk", address, typed="one\ntwo\n", code=1)
    assert done.stdout == "two\n"
    assert "no answer to 1 of 2 datagrams" in done.stderr


@pytest.mark.parametrize("typed", ["one\n", "one\ntwo\nthree\n"])
def test_talk_says_that_nobody_listens(typed):
    done = anysock("talk", f"udp://127.0.0.1:{free_udp_port()}", typed=typed, code=1)
    assert "nobody listens at udp://127.0.0.1:" in done.stderr.splitlines()[-1]


def test_talk_goes_on_after_a_line_that_fits_into_no_datagram():
    with udp_server(echo) as address:
        done = anysock("talk", address, typed=f"{'x' * 65_507}\ntwo\n", code=1)
    assert done.stdout == "two\n"
    assert done.stderr.splitlines()[-1] == (
        "anysock: a line is too long for a datagram, which has at most 65507 bytes"
    )


@pytest.mark.parametrize("command", ["talk", "ping", "load"])
def test_where_nothing_can_be_sent_to_is_told(command):
    """Without SO_BROADCAST, connect(2) refuses a broadcast address."""
    more = {"ping": ("-c", "1"), "load": ("--duration", "100ms", "-q")}.get(command, ())
    done = anysock(command, "udp://255.255.255.255:7", *more, typed="one\n", code=1)
    assert "permission denied" in (done.stdout + done.stderr).lower()


# -- ping ----------------------------------------------------------------------------------------


def ping(address: str, *more: str, code: int = 0) -> dict[str, Any]:
    done = anysock("ping", address, "--json", "-i", "20ms", "--timeout", "300ms", *more, code=code)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@pytest.mark.parametrize("size", ["1", "64", "65507"])
def test_ping_checks_every_byte(size):
    with udp_server(echo) as address:
        summary = ping(address, "-c", "5", "--size", size)
    assert (summary["sent"], summary["received"], summary["bad"]) == (5, 5, {})


def held_back() -> Answer:
    """Answers the third only after the fourth."""
    held: list[bytes] = []

    def answers(number: int, data: bytes) -> list[bytes]:
        if number == 2:
            held.append(data)
            return []
        return [data, *held] if number == 3 else [data]

    return answers


def one_byte_wrong(number: int, data: bytes) -> list[bytes]:
    return [data[:20] + bytes((data[20] ^ 1,)) + data[21:]] if number == 2 else [data]


@pytest.mark.parametrize(
    ("answers", "lost", "bad"),
    [
        (lambda number, data: [] if number == 2 else [data], 1, {}),
        (held_back(), 0, {"reordered": 1}),
        (lambda number, data: [data, data] if number == 2 else [data], 0, {"duplicate": 1}),
        (one_byte_wrong, 1, {"corrupt": 1}),
        (lambda number, data: [data[:10]] if number == 2 else [data], 1, {"short": 1}),
        (lambda number, data: [data + b"x"] if number == 2 else [data], 1, {"corrupt": 1}),
    ],
    ids=["lost", "reordered", "duplicate", "corrupt", "short", "long"],
)
def test_ping_tells_what_is_wrong_apart(answers, lost, bad):
    with udp_server(answers) as address:
        # (The last one of these counts; on a busy machine an answer is late.)
        summary = ping(address, "-c", "6", "--timeout", "3s", code=1)
    assert (summary["lost"], summary["bad"]) == (lost, bad)


def test_ping_knows_a_late_answer():
    held: list[bytes] = []

    def answers(number: int, data: bytes) -> list[bytes]:
        if number == 0:
            held.append(data)
            return []
        return [data, *held] if number == 20 else [data]

    with udp_server(answers) as address:
        summary = ping(address, "-c", "25", "--timeout", "200ms", code=1)
    assert summary["lost"] == 1
    assert summary["bad"] == {"late": 1}


def test_ping_names_a_port_where_nobody_listens():
    done = anysock("ping", f"udp://127.0.0.1:{free_udp_port()}", "-c", "1", code=1)
    assert "Connection refused" in done.stdout


def test_ping_says_what_does_not_fit():
    done = anysock("ping", "udp://127.0.0.1:9", "--size", "65508", code=2)
    assert done.stderr == "anysock: --size: a datagram has at most 65507 bytes\n"


# -- load ----------------------------------------------------------------------------------------


def load(address: str, *more: str, code: int = 0) -> dict[str, Any]:
    done = anysock("load", address, "-q", "--json", "-", *more, code=code)
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@pytest.mark.parametrize("more", [("--depth", "4"), ("--size", "8"), ("--size", "2000")])
def test_load_verifies_what_comes_back(more):
    with udp_server(echo) as address:
        outcome = load(address, "-c", "4", "--messages", "200", *more)
    assert outcome["messages"] == 200
    assert not outcome["errors"]
    assert outcome["unanswered"] == 0


def test_load_keeps_a_schedule():
    with udp_server(echo) as address:
        outcome = load(
            address, "-c", "4", "--rate", "500", "--duration", "600ms", "--warmup", "100ms"
        )
    assert 250 <= outcome["messages"] <= 350


def test_load_counts_lost_late_and_reordered_apart():
    held: list[bytes] = []

    def answers(number: int, data: bytes) -> list[bytes]:
        if number in (10, 50):  # never; and in time, but after others
            held.append(data)
            return []
        if number == 55:
            return [data, held.pop()]
        return [data, held.pop()] if number == 150 else [data]

    with udp_server(answers) as address:
        outcome = load(
            *(address, "-c", "1", "--rate", "200", "--messages", "200", "--timeout", "300ms"),
            code=1,
        )
    assert outcome["errors"] == {"lost": 1, "late": 1, "reordered": 1}
    assert outcome["messages"] == 199
    assert outcome["unanswered"] == 1


def test_load_finds_corrupt_answers():
    with udp_server(one_byte_wrong) as address:
        outcome = load(
            *(address, "-c", "1", "--rate", "200", "--messages", "20", "--timeout", "300ms"),
            code=1,
        )
    assert outcome["errors"] == {"corrupt": 1, "lost": 1}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--churn", "1"), "no --churn, --lines"),
        (("--size", "7"), "from 8 bytes"),
        (("--size", "65508"), "to 65507"),
        (("--insecure",), "the options of TLS are for tls:// addresses"),
    ],
)
def test_what_makes_no_sense_over_udp_is_one_line(more, says):
    done = anysock("load", "udp://127.0.0.1:9", *more, code=2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
