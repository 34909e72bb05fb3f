"""Contract 1: what was received comes back, identical, in order; short writes are finished."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import ServerProcess, exchange, receive_all, receive_exactly

BIG = 10_000_000


def random_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_every_byte_value_comes_back(engine, start_server):
    server = start_server(engine=engine)
    data = bytes(range(256)) * 3
    assert server.ask(data) == data


def test_10_mb_come_back_with_the_same_sha256(engine, start_server):
    server = start_server(engine=engine)
    data = random_bytes(BIG)
    came = server.ask(data)
    assert hashlib.sha256(came).hexdigest() == hashlib.sha256(data).hexdigest()


def test_10_mb_come_back_to_a_reader_that_pauses(engine, start_server):
    server = start_server(engine=engine)
    data = random_bytes(BIG)
    received = bytearray()
    with server.connect() as client:
        sender = threading.Thread(
            target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR))
        )
        sender.start()
        # Ten pauses, each long enough for all buffers on the way to fill up.
        for tenth in range(1, 11):
            time.sleep(0.05)
            received += receive_exactly(client, BIG * tenth // 10 - len(received))
        assert receive_all(client) == b""
        sender.join()
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_recv_size_bounds_each_receive(engine, start_server):
    server = start_server("echo", "--recv-size", "2", "-v", engine=engine)
    assert server.ask(b"hello") == b"hello"
    chunks = server.wait_for(r"I got data: b'o'") and server.matching("I got data: b'(.*)'")
    assert "".join(match[1] for match in chunks) == "hello"
    assert all(len(match[1]) <= 2 for match in chunks)


chunkings = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(chunks=chunkings, wait=st.booleans())
def one_chunking(server: ServerProcess, chunks: list[bytes], wait: bool) -> None:
    """Whatever the chunks, the same bytes come back; `wait` for each before the next is sent."""
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        came = b""
        for chunk in chunks:
            client.sendall(chunk)
            if wait:
                came += receive_exactly(client, len(chunk))
        client.shutdown(socket.SHUT_WR)
        came += receive_all(client)
    assert came == b"".join(chunks)


def test_any_chunking_of_any_bytes_comes_back(engine, start_server):
    server = start_server(engine=engine, python_flags=())
    one_chunking(server)


line_texts = st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"").replace(b"\r", b""))
many_lines = st.lists(st.tuples(line_texts, st.sampled_from([b"\n", b"\r\n"])), max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=many_lines, rest=line_texts, cuts=st.lists(st.integers(0, 400), max_size=6))
def one_dialogue(
    server: ServerProcess, lines: list[tuple[bytes, bytes]], rest: bytes, cuts: list[int]
) -> None:
    """Lines cut into packets anywhere: each is answered with the prefix, the rest as it is."""
    data = b"".join(text + end for text, end in lines) + rest
    expected = b"".join(b"> " + text + end for text, end in lines) + rest
    with server.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = 0
        for cut in sorted({min(cut, len(data)) for cut in cuts}):
            client.sendall(data[start:cut])
            start = cut
        assert exchange(client, data[start:]) == expected


def test_any_chunking_of_any_lines_is_answered(engine, start_server):
    server = start_server("lines", "--prefix", "> ", engine=engine, python_flags=())
    one_dialogue(server)
