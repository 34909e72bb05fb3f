"""The example of HTTP/1.1, with curl, wrk and http.client, and with what those never send."""

from __future__ import annotations

import email.utils
import functools
import http.client
import json
import random
import re

import pytest

from tests.harness import CONCURRENT_ENGINES, PATIENCE, receive_all, receive_exactly
from tests.protocols.conftest import program, run_client, sends_for

PAGE = b"<h1>a page</h1>\n"
LARGE = random.Random(1).randbytes(300_000)
SMALL = b"small\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    above = tmp_path_factory.mktemp("http1")
    (above / "secret").write_text("secret")
    folder = above / "public"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    (folder / "sub" / "small file.txt").write_bytes(SMALL)
    (folder / "large.bin").write_bytes(LARGE)
    (folder / "empty").touch()
    (folder / "way-out").symlink_to(above / "secret")
    (folder / "out-by-its-index").mkdir()
    (folder / "out-by-its-index" / "index.html").symlink_to(above / "secret")
    return folder


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def server(request, serving, folder):
    with serving("http1.py", request.param, "--folder", str(folder)) as server:
        yield server


@pytest.fixture
def client(server):
    client = http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)
    yield client
    client.close()


def fetch(client, method, path, body=None, **more):
    client.request(method, path, body, **more)
    response = client.getresponse()
    return response.status, response.read(), response.headers


def test_curl(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}"
    # Two on one connection: curl says when it has to open another.
    shown = run_client("curl", "-sSv", f"{url}/", f"{url}/sub/small%20file.txt")
    assert PAGE.decode() in shown
    assert "small\n" in shown
    assert "Re-using existing connection" in shown
    got = tmp_path / "got"
    run_client("curl", "-sS", "-o", str(got), f"{url}/large.bin")
    assert got.read_bytes() == LARGE
    run_client("curl", "-sS", "-o", str(got), "-r", "1000-200999", f"{url}/large.bin")
    assert got.read_bytes() == LARGE[1000:201_000]
    run_client("curl", "-sS", "-o", str(got), "-C", "-", f"{url}/large.bin")  # the rest of it
    assert got.read_bytes() == LARGE[1000:201_000] + LARGE[200_000:]


def test_curl_that_waits_to_be_told_to_continue(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}/echo"
    (tmp_path / "body").write_bytes(LARGE)
    what = ("--data-binary", f"@{tmp_path}/body", "-o", str(tmp_path / "got"), url)
    shown = run_client("curl", "-sSv", "-H", "Expect: 100-continue", *what)
    assert "< HTTP/1.1 100" in shown
    assert (tmp_path / "got").read_bytes() == LARGE
    shown = run_client("curl", "-sSv", "-H", "Transfer-Encoding: chunked", *what)
    assert "< Transfer-Encoding: chunked" in shown
    assert (tmp_path / "got").read_bytes() == LARGE
    # What is too long need not be sent at all.
    (tmp_path / "body").write_bytes(bytes(2_000_000))
    shown = run_client("curl", "-sSv", "-H", "Expect: 100-continue", *what)
    assert "< HTTP/1.1 413" in shown
    assert "< HTTP/1.1 100" not in shown


def test_wrk(server):
    shown = run_client("wrk", "-t1", "-c8", "-d1s", f"http://127.0.0.1:{server.port}/")
    assert re.search(r"\d\d+ requests in", shown)
    assert "Non-2xx" not in shown
    assert "Socket errors" not in shown


def test_one_connection_serves_many_requests(client):
    status, body, headers = fetch(client, "GET", "/")
    assert (status, body) == (200, PAGE)
    assert headers["Content-Type"] == "text/html"
    assert email.utils.parsedate_to_datetime(headers["Date"])
    socket = client.sock
    status, body, headers = fetch(client, "HEAD", "/large.bin")
    assert (status, body, headers["Content-Length"]) == (200, b"", "300000")
    assert fetch(client, "GET", "/large.bin")[:2] == (200, LARGE)
    assert fetch(client, "GET", "/empty")[:2] == (200, b"")
    chunks = iter([b"one ", b"two ", b"three"])
    status, body, headers = fetch(client, "POST", "/echo", chunks, encode_chunked=True)
    assert (status, body, headers["Transfer-Encoding"]) == (200, b"one two three", "chunked")
    said = json.dumps({"a": 1})
    kind = {"Content-Type": "application/json"}
    status, body, headers = fetch(client, "POST", "/echo", said, headers=kind)
    assert (status, body.decode(), headers["Content-Type"]) == (200, said, "application/json")
    for path in (
        "/nothing",
        "/sub",
        "/way-out",
        "/out-by-its-index",
        "/../secret",
        "/%2e%2e/secret",
        "/%00",
        "/" + "x" * 999,
    ):
        assert fetch(client, "GET", path)[0] == 404, path
    assert fetch(client, "HEAD", "/nothing")[:2] == (404, b"")
    status, _, headers = fetch(client, "POST", "/", b"")
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert client.sock is socket
    status, _, headers = fetch(client, "POST", "/", b"a body that is not read")
    assert (status, headers["Connection"]) == (405, "close")


RANGES = [
    ("bytes=0-0", 206, LARGE[:1], "bytes 0-0/300000"),
    ("bytes=299990-400000", 206, LARGE[-10:], "bytes 299990-299999/300000"),
    ("bytes=200000-", 206, LARGE[200_000:], "bytes 200000-299999/300000"),
    ("bytes=-5", 206, LARGE[-5:], "bytes 299995-299999/300000"),
    ("bytes=-300001", 206, LARGE, "bytes 0-299999/300000"),
    ("bytes=300000-", 416, b"416\n", "bytes */300000"),
    ("bytes=-0", 416, b"416\n", "bytes */300000"),
    ("bytes=0-1,5-6", 200, LARGE, None),
    ("lines=1-2", 200, LARGE, None),
]


def test_ranges(client):
    for wanted, *expected in RANGES:
        status, body, headers = fetch(client, "GET", "/large.bin", headers={"Range": wanted})
        assert [status, body, headers["Content-Range"]] == expected, wanted


GET = b"GET /sub/small%20file.txt HTTP/1.1\r\nHost: here\r\n\r\n"


def test_requests_that_come_together_are_answered_in_order(server):
    last = GET.replace(b"Host", b"Connection: close\r\nHost")
    answer = server.ask(GET + b"GET /nothing HTTP/1.1\r\nHost: here\r\n\r\n" + GET * 97 + last)
    answers = answer.split(b"HTTP/1.1 ")
    assert [each[:3] for each in answers] == [b"", b"200", b"404", *[b"200"] * 98]
    assert all(each.endswith(SMALL) for each in answers[3:])


def test_requests_that_come_together_are_answered_by_one_send(folder):
    http1 = functools.partial(program("http1.py").http1, folder)
    answer = b"HTTP/1.1 200 OK\r\n"
    assert sends_for(http1, GET * 5, answers=5 * len(answer)) == 1


FAULTY = [
    (b"hello\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, 431),
    (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n", 413),
    (b"GET / HTTP/1.1\r\nHos", 400),  # and then the end of the stream
]


def test_what_is_no_request_is_answered_and_ends_the_connection(server):
    for request, status in FAULTY:
        # Behind a whole request, to which the answer comes first.
        answer = server.ask(GET + request)
        first, _, second = answer.partition(SMALL)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n"), request
        assert second.startswith(b"HTTP/1.1 %d " % status), request
        assert b"\r\nConnection: close\r\n" in second, request


def test_what_is_not_ascii_in_a_header_does_not_come_back(server):
    asked = (
        b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Type: a/\xffb\r\nContent-Length: 0\r\n\r\n"
    )
    assert b"\r\nContent-Type: a/b\r\n" in server.ask(asked)


def test_http_1_0_and_absolute_addresses(server):
    answer = server.ask(b"GET /empty HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    answer = server.ask(b"GET http://here/sub/small%20file.txt?x HTTP/1.1\r\nHost: here\r\n\r\n")
    assert answer.endswith(SMALL)


def test_a_drain(serving, concurrent_engine, folder):
    with serving("http1.py", concurrent_engine, "--folder", str(folder)) as server:
        with server.connect() as quiet, server.connect() as half, server.connect() as busy:
            quiet.sendall(GET)
            assert receive_exactly(quiet, 9) == b"HTTP/1.1 "
            half.sendall(GET[:20])
            busy.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234")
            server.signal()
            server.wait_for("draining")
            # This one goes on, and is told that it is the last.
            busy.sendall(b"567890")
            answer = receive_all(busy)
            assert answer.endswith(b"\r\n\r\n1234567890")
            assert b"\r\nConnection: close\r\n" in answer
            assert receive_all(quiet).endswith(SMALL)
            assert receive_all(half).startswith(b"HTTP/1.1 503 ")
        assert server.wait() == 0
