"""The kinds of work of ``anysock bench``: every server does its work, and the drivers of others."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.bench.generator.plan import Plan
from anysock.bench.load import Outcome
from anysock.bench.servers import all_servers, running
from anysock.bench.work import redis
from anysock.bench.work.drivers import DRIVERS, parse_redis_benchmark, parse_wrk
from anysock.bench.work.kinds import KINDS
from anysock.cli.bench import WORKS
from anysock.errors import StartError
from anysock.net.addresses import Address
from tests.commands.test_bench import BENCH, bench
from tests.harness import PATIENCE, free_port


def needs(why_not: str | None) -> None:
    """Skip, if there is a reason; but continuous integration has all."""
    if why_not is not None:
        assert not os.environ.get("CI"), why_not
        pytest.skip(why_not)


def command(name: str) -> str | None:
    """Why it can't be used."""
    return None if shutil.which(name) else f"{name} is not installed"


def test_the_command_line_names_every_kind():
    assert list(WORKS) == list(KINDS)


# -- what each server answers ---------------------------------------------------------------------


def echoes(port: int, sent: Sequence[bytes], answers: Sequence[bytes]) -> None:
    """Each piece that is sent is met with its answer, and the end of the stream with its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        for data, answer in zip(sent, answers, strict=True):
            client.sendall(data)
            received = b""
            while len(received) < len(answer):
                more = client.recv(65536)
                assert more, received
                received += more
            assert received == answer
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


CONVERSATIONS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "echo": ([b"a", b"b" * 1000], [b"a", b"b" * 1000]),
    # An incomplete one is not answered, three at once are.
    "lines": ([b"a\r\n", b"incomp", b"lete\n1\n2\n"], [b"a\r\n", b"", b"incomplete\n1\n2\n"]),
    "frames": (
        [b"\0\0\0\1a", b"\0\0", b"\0\2b", b"c" + b"\0\0\0\0" + b"\0\0\0\1d"],
        [b"\0\0\0\1a", b"", b"", b"\0\0\0\2bc\0\0\0\0\0\0\0\1d"],
    ),
    "redis": (
        [
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n*2\r\n$3\r\nget\r\n$1\r\nk\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r",
            b"\nx\r\n*1\r\n$4\r\nPING\r\n",
        ],
        [b"+OK\r\n$4\r\n\r\n\r\n\r\n", b"", b"$-1\r\n+PONG\r\n"],
    ),
}


@pytest.mark.parametrize(
    ("kind", "server"),
    [
        (kind, server)
        for kind in KINDS.values()
        for server in all_servers(None, kind)
        if kind.name in CONVERSATIONS
    ],
    ids=lambda each: each.name,
)
def test_every_server_does_its_work(kind, server):
    if server.why_not is not None:
        pytest.skip(server.why_not)
    with running(server) as (pid, port):
        assert pid > 0
        echoes(port, *CONVERSATIONS[kind.name])


def headers_of(port: int) -> tuple[list[tuple[str, str]], bytes]:
    """Two requests on one connection are answered, and a third, which is to be the last: by these
    headers, and this body."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    ) as client:
        headers: dict[str, str]
        for headers in ({}, {}, {"Connection": "close"}):
            client.request("GET", "/", headers=headers)
            answer = client.getresponse()
            assert answer.status == 200
            body = answer.read()
    return answer.getheaders(), body


@pytest.mark.parametrize("server", all_servers(None, KINDS["http"]), ids=lambda server: server.name)
def test_every_server_of_http_answers_with_the_same_headers(server):
    if server.why_not is not None:
        pytest.skip(server.why_not)
    with running(server) as (_, port):
        headers, body = headers_of(port)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GARBAGE\r\n\r\n")
            refused = b"".join(iter(lambda: client.recv(65536), b""))
    headers = [(name.lower(), value) for name, value in headers]
    told = {name: value for name, value in headers if name not in ("date", "server")}
    length = str(KINDS["http"].sizes[0])
    assert [name for name, _ in headers[:2]] == ["date", "server"]
    assert list(told.items()) == [
        ("content-type", "text/plain"), ("content-length", length), ("connection", "close"),
    ]  # fmt: skip
    # So they are of the same size.
    assert [len(value) for _, value in headers[:2]] == [29, 7]
    assert str(len(body)) == length
    assert refused.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("server", ["anysock selector", "asyncio streams"])
def test_redis_cli_is_answered(server):
    needs(command("redis-cli"))
    [found] = [each for each in all_servers(None, KINDS["redis"]) if each.name == server]
    commands = (
        *("SET a 1", "INCR a", "INCR a", "GET a", "DEL a b", "GET a"),
        *("INCR", "NONE", "SET a x", "INCR a", "PING", "PING x", "CONFIG GET save"),
    )
    with running(found) as (_, port):
        done = subprocess.run(
            ["redis-cli", "-p", str(port)],
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /\r\n")
            assert client.recv(100) == b"-ERR Protocol error\r\n"
    assert [line for line in done.stdout.splitlines() if line] == [
        *("OK", "2", "3", "3", "1"),
        *("ERR wrong number of arguments", "ERR unknown command", "OK"),
        *("ERR value is not an integer or out of range", "PONG", "x", "save"),
    ]


@given(
    st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=4), max_size=6),
    st.lists(st.integers(1, 30), max_size=40),
)
def test_commands_of_redis_are_found_however_they_are_cut(values, cuts):
    commands = [[b"SET", b"k", b"\r\n".join(parts)] for parts in values]
    stream = b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
        for words in commands
    )
    store: redis.Store = {}
    session, answers = redis.Session(store), b""
    for cut in [*cuts, len(stream)]:
        answers += session.receive(stream[:cut])
        stream = stream[cut:]
    assert answers == redis.OK * len(commands)
    assert store == ({b"k": commands[-1][2]} if commands else {})


# -- the drivers of others ------------------------------------------------------------------------

REDIS_BENCHMARK = """\
====== SET ======
  2000 requests completed in 0.02 seconds
  5 parallel clients

Latency by percentile distribution:
0.000% <= 0.032 milliseconds (cumulative count 10)
50.000% <= 0.143 milliseconds (cumulative count 1200)
100.000% <= 2.159 milliseconds (cumulative count 2000)

Cumulative distribution of latencies:
60.000% <= 0.207 milliseconds (cumulative count 1200)
100.000% <= 3.103 milliseconds (cumulative count 2000)

Summary:
  throughput summary: 100000.00 requests per second
"""

WRK = """\
Running 1s test @ http://127.0.0.1:8000/
  2 threads and 10 connections
anysock requests 3000 1000000 465000
anysock errors connect 0 read 2 write 0 status 0 timeout 1
anysock latency 100 2000
anysock latency 300 1000
"""


def nothing_yet() -> Outcome:
    return Outcome(Plan(Address("127.0.0.1", 1)))


def test_what_redis_benchmark_says():
    found = parse_redis_benchmark(nothing_yet(), REDIS_BENCHMARK)
    assert found.messages == len(found.echo) == 2000
    assert found.rate == pytest.approx(100_000)
    assert found.echo.percentile(50) == pytest.approx(143e-6, rel=0.01)
    assert found.echo.percentile(100) == pytest.approx(2159e-6, rel=0.01)
    assert found.ok
    with pytest.raises(StartError, match="no throughput"):
        parse_redis_benchmark(nothing_yet(), "Could not connect to Redis")


def test_what_wrk_says():
    found = parse_wrk(nothing_yet(), WRK)
    assert found.messages == len(found.echo) == 3000
    assert found.rate == 3000
    assert found.bytes_received == 465_000
    assert found.echo.percentile(50) == pytest.approx(100e-6, rel=0.01)
    assert found.echo.percentile(99) == pytest.approx(300e-6, rel=0.01)
    assert found.errors == {"read": 2, "timeout": 1}
    with pytest.raises(StartError, match="errors"):
        parse_wrk(nothing_yet(), "anysock requests 1 1 1")


@pytest.mark.parametrize("kind", ["redis", "http"])
def test_a_comparison_by_a_driver_of_others(tmp_path, kind):
    work = KINDS[kind]
    assert work.driver is not None
    needs(DRIVERS[work.driver].why_not)
    file, page = tmp_path / "bench.json", tmp_path / "bench.html"
    short = ("--duration", "100ms", "--warmup", "0", "--rounds", "1", "-c", "2")
    names = ("--baseline", "asyncio streams", "--server", "anysock selector")
    depth = () if work.fixed else ("--depth", "4")
    done = bench("--work", kind, *short, *names, *depth, "--json", str(file), "--html", str(page))
    report = json.loads(file.read_text())
    assert report["settings"]["generator"] == work.driver
    for name, rows in report["tables"].items():
        assert name in done.stdout
        assert name.startswith(kind)
        for row in rows.values():
            assert row["cpu"] > 0
            assert row["echo"]["p50"] > 0
    assert work.driver in page.read_text()
    bench("--json", str(file), "--resume")


def test_a_driver_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run(
        [*BENCH, "--work", "redis"],
        env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "anysock: --work redis: redis-benchmark is not installed "
        "(Debian: apt install redis-tools)\n"
    )


def test_a_driver_that_fails_says_why():
    needs(DRIVERS["wrk"].why_not)
    plan = Plan(Address("127.0.0.1", free_port()), duration=0.1, warmup=0)
    with pytest.raises(StartError, match="wrk failed with exit code 1: unable to connect"):
        DRIVERS["wrk"].drive(plan, "", os.getpid(), None)


@pytest.mark.parametrize(("kind", "generator"), [("lines", "python"), ("frames", "c")])
def test_a_comparison_of_whole_messages(tmp_path, kind, generator):
    if generator == "c":
        needs(command("cc"))
    file, page = tmp_path / "bench.json", tmp_path / "bench.html"
    # (Without an answer within that time, a server is left out: the machine may be busy.)
    short = ("--duration", "400ms", "--warmup", "50ms", "--rounds", "1", "-c", "2")
    chosen = ("--server", "anysock selector", "--generator", generator, "--depth", "1,4")
    done = bench("--work", kind, *short, *chosen, "--json", str(file), "--html", str(page))
    tables = json.loads(file.read_text())["tables"]
    assert list(tables) == [f"{kind}, 2 × 64B", f"{kind}, 2 × 64B, 4 on the way"]
    for name, rows in tables.items():
        assert name in done.stdout
        assert name in page.read_text()
        assert list(rows) == ["asyncio streams", "anysock selector"], done.stdout
        assert rows["anysock selector"]["ratio"]["median"] > 0
    bench("--json", str(file), "--resume")
