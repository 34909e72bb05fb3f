"""The example of a proxy that speaks TLS, with openssl, curl and ncat, and servers without TLS."""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import socketserver
import ssl
import subprocess

import pytest

from tests.harness import CONCURRENT_ENGINES, PATIENCE, free_port, need, reset
from tests.protocols.conftest import run_client
from tests.protocols.targets import Counter, Page, target
from tests.tls_client import TlsClient

# For what is in the program alone, and is the same under every engine.
on_one_engine = pytest.mark.parametrize("proxy", ["selector"], indirect=True)


class Resets(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1)
        reset(self.request)


class Told(socketserver.BaseRequestHandler):
    """Says that it is there, and tells how its client has left."""

    ends: queue.Queue[str] = queue.Queue()

    def handle(self):
        self.request.sendall(b"here")
        try:
            self.ends.put(f"received {self.request.recv(1)!r}")
        except ConnectionResetError:
            self.ends.put("reset")


@pytest.fixture(scope="module")
def certificate(pki):
    """One for each name by which the proxy is asked."""
    here, there = pki.server, pki.issue("proxy", "*.example.org")
    certs = ("--tls-cert", str(here.cert), "--tls-cert", str(there.cert))
    return (*certs, "--tls-key", str(here.key), "--tls-key", str(there.key))


@pytest.fixture(scope="module")
def options(pki, certificate):
    """The servers behind the proxy, as its options name them."""
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(pki.server.both)
    with contextlib.ExitStack() as stack:
        page, counter, resets, told = (
            stack.enter_context(target(handler)) for handler in (Page, Counter, Resets, Told)
        )
        secret = stack.enter_context(target(Counter, context=secure))
        yield (
            *(*certificate, "--to-ca", str(pki.ca)),
            *("--to", f"127.0.0.1:{page}"),
            *("--route", f"Counter.example.org=127.0.0.1:{counter}"),
            *("--route", f"resets.example.org=127.0.0.1:{resets}"),
            *("--route", f"told.example.org=127.0.0.1:{told}"),
            *("--route", f"secret.example.org=tls://localhost:{secret}"),
            *("--route", f"nobody.example.org=127.0.0.1:{free_port()}"),
        )


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def proxy(request, serving, options, pki):
    with serving("tls_proxy.py", request.param, *options, bind="tls://127.0.0.1:0") as proxy:
        proxy.base_threads += 40  # those that have looked up a name are kept for the next
        # What can't be carried over, or done, is told to the client by a reset.
        proxy.expected_errors.append("aborted the connection")
        yield proxy
        # The drain ends a connection at rest: the server behind it gets the end, and may answer.
        with talk(proxy, pki, "counter.example.org") as client:
            client.send(b"four")
            proxy.signal()
            assert client.receive_all() == b"4 bytes"
        assert proxy.wait() == 0
        assert re.search(
            r"127\.0\.0\.1:\d+: \d+ connections, 0 failed; \d+ bytes there, ", proxy.log
        )


def talk(proxy, pki, name: str | None) -> TlsClient:
    context = ssl.create_default_context(cafile=pki.ca)
    context.check_hostname = name is not None
    return TlsClient(proxy.connect(), context, name)


def test_curl(proxy, pki):
    url = f"https://localhost:{proxy.port}/"
    assert run_client("curl", "-sS4", "--cacert", str(pki.ca), url) == "a page"


def test_openssl(proxy, pki):
    told = run_client(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-CAfile", str(pki.ca)),
        *("-servername", "any.example.org", "-verify_hostname", "any.example.org"),
        *("-verify_return_error", "-quiet", "-ign_eof"),
        say=b"GET / HTTP/1.0\r\n\r\n",
    )
    assert told.endswith("a page")


def test_ncat(proxy, pki):
    # Its input stays open: at the end of that it would half-close TCP without a word of TLS. And it
    # is not waited for: it may overlook the end of TLS in what it receives (libnsock 7.93).
    trust = ("--ssl", "--ssl-verify", "--ssl-trustfile", str(pki.ca))
    with subprocess.Popen(
        [need("ncat"), *trust, "-4", "localhost", str(proxy.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as ncat:
        assert ncat.stdin is not None
        assert ncat.stdout is not None
        ncat.stdin.write(b"GET / HTTP/1.0\r\n\r\n")
        ncat.stdin.flush()
        while ncat.stdout.readline() not in (b"\r\n", b""):
            pass
        assert ncat.stdout.read(6) == b"a page"
        ncat.kill()


@pytest.mark.parametrize("name", ["counter.example.org", "secret.example.org"])
def test_the_name_chooses_the_server_and_a_half_close_is_carried_over(proxy, pki, name):
    with talk(proxy, pki, name) as client:
        client.send(b"x" * 3_000_000)
        client.send_eof()
        assert client.receive_all() == b"3000000 bytes"


def test_a_reset_is_carried_over_in_both_directions(proxy, pki):
    with talk(proxy, pki, "resets.example.org") as client:
        client.send(b"x")
        with pytest.raises(ConnectionResetError):
            client.receive_all()
    with talk(proxy, pki, "told.example.org") as client:
        assert client.receive_exactly(4) == b"here"
        reset(client.sock)
        assert Told.ends.get(timeout=PATIENCE) == "reset"


@on_one_engine
def test_a_client_without_a_name_gets_the_server_of_all_others(proxy, pki):
    with talk(proxy, pki, None) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.receive_all().endswith(b"a page")


@on_one_engine
def test_a_server_that_can_not_be_reached_is_one_line_and_no_answer(proxy, pki):
    proxy.expected_errors.append(r"example|127\.0\.0\.1:\d+:")
    with talk(proxy, pki, "nobody.example.org") as client:
        with pytest.raises(ConnectionResetError):
            client.receive()
    proxy.wait_for(r"warning: 127\.0\.0\.1:\d+: .*[Rr]efused")


def test_a_name_that_is_not_served(serving, certificate, pki):
    with serving("tls_proxy.py", "selector", *certificate, bind="tls://127.0.0.1:0") as proxy:
        proxy.expected_errors += ["not served", "aborted the connection"]
        with talk(proxy, pki, "any.example.org") as client:
            with pytest.raises(ConnectionResetError):
                client.receive()
        proxy.wait_for(r"asks for any\.example\.org, which is not served")


def test_the_server_is_told_who_the_client_is_before_tls(serving, certificate, pki):
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    secure.load_cert_chain(pki.server.both)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        to = f"localhost:{listener.getsockname()[1]}"
        options = ("--to", to, "--route", f"secret.example.org=tls://{to}", "--to-ca", str(pki.ca))
        options += (*certificate, "--send-proxy")
        with serving("tls_proxy.py", "selector", *options, bind="tls://127.0.0.1:0") as proxy:
            proxy.base_threads += 40
            for name in ("localhost", "secret.example.org"):
                with talk(proxy, pki, name) as client:
                    server, _ = listener.accept()
                    server.settimeout(PATIENCE)
                    port = client.sock.getsockname()[1]
                    header = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (port, proxy.port)
                    assert server.recv(len(header), socket.MSG_WAITALL) == header
                    if name != "localhost":
                        server = secure.wrap_socket(server, server_side=True)
                    with server:
                        client.send(b"question")
                        assert server.recv(100) == b"question"
                        server.sendall(b"answer")
                        assert client.receive() == b"answer"
                        if isinstance(server, ssl.SSLSocket):
                            client.send_eof()
                            server.unwrap()
