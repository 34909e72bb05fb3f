"""The programs of the how-to pages, as processes."""

from __future__ import annotations

import collections
import contextlib
import functools
import importlib.util
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import anysock
from anysock import engines
from tests.harness import (
    CONCURRENT_ENGINES,
    ENGINES,
    PATIENCE,
    exchange,
    receive_exactly,
    reset,
    wait_until,
)

HOWTO = Path(__file__).parents[2] / "examples" / "howto"


def program(name: str):
    """A module of its own each time, with nothing of an earlier test in it."""
    spec = importlib.util.spec_from_file_location(name, HOWTO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lines_until(client, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        data = client.recv(65536)
        assert data, received
        received += data
    return received


def test_chat(start_server):
    server = start_server("chat:chat", cwd=HOWTO)
    with server.connect() as anna, server.connect() as bob:
        anna.sendall(b"Anna\r\n")
        assert lines_until(anna, b"\n") == b"Your name? * hello Anna\r\n"
        bob.sendall(b"Bob\r\n")
        lines_until(anna, b"* Bob is here\r\n")
        bob.sendall(b"hello\r\n")
        lines_until(anna, b"Bob: hello\r\n")
        anna.sendall(b"hello yourself\r\n")
        assert b"Bob: hello" not in lines_until(bob, b"Anna: hello yourself\r\n")
        bob.close()
        lines_until(anna, b"* Bob has left\r\n")


def test_a_chat_client_that_does_not_read_must_leave_and_hurts_nobody(start_server):
    server = start_server("chat:chat", "--socket-buffer", "8KiB", cwd=HOWTO)
    server.expected_errors.append(r"outbox full \(it reads too slowly: \d+ messages")
    with server.connect() as deaf, server.connect() as anna, server.connect() as bob:
        for client, name in ((deaf, b"Deaf"), (anna, b"Anna"), (bob, b"Bob")):
            client.sendall(name + b"\r\n")
            lines_until(client, b"* hello %s\r\n" % name)
        lines_until(anna, b"* Bob is here\r\n")
        hears = bob.makefile("rb")
        for number in range(400):
            anna.sendall(b"%d %s\r\n" % (number, b"x" * 30_000))
            while (line := hears.readline()) == b"* Deaf has left\r\n":
                pass
            assert line.startswith(b"Anna: %d " % number)
        lines_until(anna, b"* Deaf has left\r\n")
        hears.close()


def test_a_chat_client_can_not_write_on_the_terminals_of_others(start_server):
    server = start_server("chat:chat", cwd=HOWTO)
    with server.connect() as anna, server.connect() as eve:
        anna.sendall(b"Anna\n")
        lines_until(anna, b"* hello Anna\r\n")
        eve.sendall(b"\x1b]0;Bob\x07" + b"e" * 100 + b"\n")
        joined = lines_until(anna, b" is here\r\n")
        eve.sendall("\x1b[2J\rAnna: hello\u2028\u202e!\n".encode())
        said = lines_until(anna, b"!\r\n")
    name = b"?]0;Bob?" + b"e" * 22
    assert joined == b"* " + name + b" is here\r\n"
    assert said == name + b": ?[2J?Anna: hello??!\r\n"


def test_pubsub(start_server):
    server = start_server("pubsub:pubsub", cwd=HOWTO)
    with server.connect() as anna, server.connect() as bob:
        anna.sendall(b"SUBSCRIBE news\nSUBSCRIBE weather\n")
        assert lines_until(anna, b"OK weather\n") == b"OK news\nOK weather\n"
        bob.sendall(b"PUBLISH news hello all\nPUBLISH other x\nPUBLISH weather rain\nWHAT\n")
        assert lines_until(bob, b"PUBLISH\n") == (
            b"OK 1\nOK 0\nOK 1\nERROR expected SUBSCRIBE, UNSUBSCRIBE or PUBLISH\n"
        )
        lines_until(anna, b"MESSAGE news hello all\nMESSAGE weather rain\n")
        anna.sendall(b"UNSUBSCRIBE news\n")
        lines_until(anna, b"OK news\n")
        bob.sendall(b"PUBLISH news nobody\nPUBLISH weather sun\n")
        lines_until(bob, b"OK 0\nOK 1\n")
        assert lines_until(anna, b"sun\n") == b"MESSAGE weather sun\n"


def test_who_only_looks_whether_the_chat_is_there_is_not_announced(start_server):
    server = start_server("chat:chat", cwd=HOWTO)
    with server.connect() as anna:
        anna.sendall(b"Anna\n")
        lines_until(anna, b"* hello Anna\r\n")
        assert server.ask(b"") == b"Your name? "
        with server.connect() as bob:
            bob.sendall(b"Bob\n")
            assert lines_until(anna, b"is here\r\n") == b"* Bob is here\r\n"


def test_proxy(start_server):
    echo = start_server()
    target = {"PROXY_TARGET": f"127.0.0.1:{echo.port}"}
    proxy = start_server("proxy:proxy", cwd=HOWTO, environment=target)
    data = bytes(range(256)) * 8000
    with proxy.connect() as client:
        assert exchange(client, data) == data


def test_proxy_without_a_target_is_one_failure(start_server):
    proxy = start_server("proxy:proxy", cwd=HOWTO, environment={"PROXY_TARGET": "127.0.0.1:1"})
    proxy.expected_errors += ["failed", "Traceback", "ConnectionRefusedError"]
    with proxy.connect() as client:
        assert client.recv(1) == b""
    wait_until(lambda: "ConnectionRefusedError" in proxy.log, "the failure is told")


@pytest.mark.parametrize("engine", [each for each in ENGINES if each != "blocking"])
def test_a_proxy_hands_on_a_reset_in_both_directions(start_server, engine):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        target = {"PROXY_TARGET": f"127.0.0.1:{listener.getsockname()[1]}"}
        proxy = start_server("proxy:proxy", engine=engine, cwd=HOWTO, environment=target)
        proxy.expected_errors.append("aborted the connection")
        for of_the_client in (True, False):
            client = proxy.connect()
            server, _ = listener.accept()
            server.settimeout(PATIENCE)
            with client, server:
                client.sendall(b"question")
                assert receive_exactly(server, 8) == b"question"
                gone, left = (client, server) if of_the_client else (server, client)
                reset(gone)
                with pytest.raises(ConnectionResetError):
                    left.recv(1)
        proxy.wait_for(r"lost after .* \(\[Errno 104\]")  # that of the client
        proxy.wait_for("aborted after .*")
        assert len(proxy.matching("aborted the connection")) == 1


def test_line_protocol(start_server):
    server = start_server("counter:counter", cwd=HOWTO)
    assert server.ask(b"ADD a 2\r\nADD a 3\nGET a\r\nSING\r\nQUIT\r\nGET a\r\n") == (
        b"OK\r\nOK\r\n5\r\nERR use ADD NAME NUMBER, GET NAME or QUIT\r\n"
    )


@pytest.mark.parametrize("engine", ["threads", "selector"])
def test_no_line_ends_the_line_protocol(start_server, engine):
    server = start_server("counter:counter", engine=engine, cwd=HOWTO)
    server.expected_errors.append("line longer than 200 bytes")
    for line in (
        b"ADD apples --3",
        "ADD apples ²".encode(),
        b"ADD apples",
        b"",
        b"\0\xff",
        b"QUITE",
    ):
        told = server.ask(line + b"\nGET apples\nQUIT\n")
        assert re.fullmatch(rb"ERR [^\r\n]+\r\n0\r\n", told), line
    assert server.ask(b"ADD \xff 1\nADD \xfe 2\nGET \xff\nQUIT\n") == b"OK\r\nOK\r\n1\r\n"
    # Cut off, it is no command.
    assert server.ask(b"ADD pears 1") == b""
    assert server.ask(b"GET pears\nQUIT\n") == b"0\r\n"
    assert server.ask(b"ADD " + b"x" * 100_000) == b""


# What looks like a number to somebody, in any script.
digits = st.sampled_from("01²٣-+_.") | st.characters(categories=["Nd", "No"])
numbers = st.text(digits, min_size=1)
words = st.sampled_from(["ADD", "GET", "QUIT"]) | st.text()
commands = st.tuples(st.just("ADD"), st.sampled_from("ab"), numbers).map(" ".join)
lines = commands | st.lists(words | numbers).map(" ".join)
NUMBER = st.integers(-(10**18) + 1, 10**18 - 1)


counter_of_all = program("counter")


@given(st.lists(lines))
@example(["ADD a --3"])
@example(["ADD a ²"])
def test_each_line_of_the_line_protocol_has_one_line_for_an_answer(said):
    for line in said:
        assert re.fullmatch(r"OK|-?[0-9]+|ERR [ -~]+", counter_of_all.answer(line)), line


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), NUMBER)))
def test_the_line_protocol_adds_up(added):
    counter_of_all.numbers.clear()
    sums: collections.Counter[str] = collections.Counter()
    for name, number in added:
        assert counter_of_all.answer(f"ADD {name} {number}") == "OK"
        sums[name] += number
    for name in ("a", "b"):
        assert counter_of_all.answer(f"GET {name}") == str(sums[name])


def test_the_line_protocol_keeps_so_many_names():
    counter = program("counter")
    counter.MAX_NAMES = 2
    answers = [counter.answer(f"ADD {name} 1") for name in ("a", "b", "c", "a")]
    assert answers == ["OK", "OK", "ERR too many names", "OK"]


def test_no_number_is_lost_between_threads():
    class Slow(collections.Counter[str]):
        """Lets the others run between the two steps of +=."""

        def __getitem__(self, name: str) -> int:
            found = super().__getitem__(name)
            time.sleep(0.001)
            return found

    counter = program("counter")
    counter.numbers = Slow()
    begin = threading.Barrier(4)

    def add() -> None:
        begin.wait(PATIENCE)
        for _ in range(10):
            counter.answer("ADD apples 1")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert counter.answer("GET apples") == "40"


@pytest.mark.parametrize(("file", "tests"), [("test_counter.py", 11), ("test_chat.py", None)])
def test_the_tests_that_are_shown_pass(file, tests):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file],
        cwd=HOWTO,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tests or len(ENGINES) + 2 * len(CONCURRENT_ENGINES)} passed" in done.stdout


# -- the tally: what shared state needs ------------------------------------------------------------


def add_one_each(handler: str, engine: str, module, plus) -> int:
    """Two clients add 1, at the same time; the total in the end."""
    module.plus = plus
    tally = module.Tally()

    @contextlib.asynccontextmanager
    async def lifespan(_server):
        yield tally

    async def add(address):
        async with await anysock.connect(address) as client:
            await client.send_all(b"1\n")
            return await client.recv_line()

    async def main():
        async with (
            anysock.timeout(PATIENCE),
            anysock.Server(
                getattr(module, handler), lifespan=lifespan, bind="127.0.0.1:0"
            ) as server,
            anysock.task_group() as group,
        ):
            answers = [group.spawn(add(server.addresses[0])) for _ in range(2)]
            return sorted([await each.join() for each in answers])

    answers = anysock.run(main, engine=engine)
    assert answers[-1] == b"%d\n" % tally.total
    return int(tally.total)


def test_without_a_lock_an_update_is_lost_under_threads():
    """Both have read the total before one of them writes it."""
    both = threading.Barrier(2)

    def plus(total, line):
        both.wait(PATIENCE)
        return total + int(line)

    assert add_one_each("careless", "threads", program("tally"), plus) == 1


def test_with_a_lock_none_is_lost_under_threads():
    """The first is in the middle while the second waits for the lock."""
    module = program("tally")
    locks = []

    class Lock(anysock.Lock):
        def __init__(self):
            super().__init__()
            locks.append(self)

    module.Tally = functools.partial(module.Tally, lock=Lock())
    in_the_middle = []

    def plus(total, line):
        in_the_middle.append(threading.get_ident())
        if len(in_the_middle) == 1:
            wait_until(lambda: locks[0]._turns._waiting, "the other waits for the lock")
        return total + int(line)

    assert add_one_each("careful", "threads", module, plus) == 2
    assert len(set(in_the_middle)) == 2


@pytest.mark.parametrize("handler", ["careless", "careful"])
def test_with_one_thread_there_is_no_need(handler):
    for name in CONCURRENT_ENGINES:
        if engines.ENGINES[name].one_thread:
            module = program("tally")
            assert add_one_each(handler, name, module, module.plus) == 2
