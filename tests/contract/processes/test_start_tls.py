"""STARTTLS on the real server, with the clients that its users have: smtplib, openssl, and our own;
and with what an attacker on the way may put behind the line."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import subprocess
from collections.abc import Iterator

import pytest

import anysock
from anysock.net.certificates import client_context
from tests.harness import ENGINES, PATIENCE, ServerProcess, receive_all, receive_exactly

SMTP = """
async def smtp(connection):
    await connection.send_all(b"220 localhost ESMTP\\r\\n")
    async for line in connection.lines():
        word = line.upper().strip().partition(b" ")[0]
        if word == b"EHLO":
            more = b"" if connection.tls else b"250-STARTTLS\\r\\n"
            await connection.send_all(b"250-localhost\\r\\n" + more + b"250 HELP\\r\\n")
        elif word == b"STARTTLS":
            await connection.send_all(b"220 go ahead\\r\\n")
            await connection.start_tls(server_side=True)
        elif word == b"NOOP":
            version = connection.tls.version if connection.tls else "plain text"
            await connection.send_all(b"250 %s\\r\\n" % version.encode())
        else:
            await connection.send_all(b"221 bye\\r\\n")
            return
"""


@pytest.fixture(scope="module", params=ENGINES)
def running(request, pki, tmp_path_factory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("mail")
    (folder / "mail.py").write_text(SMTP)
    options = ("--tls-cert", str(pki.server.both), "--handshake-timeout", "0.5s")
    server = ServerProcess("mail:smtp", *options, engine=request.param, cwd=folder)
    server.expected_errors += ["handshake failed"]
    try:
        yield server
        server.check()
    finally:
        server.kill()


@pytest.fixture
def server(running) -> Iterator[ServerProcess]:
    yield running
    running.wait_until_idle()


@contextlib.contextmanager
def at_starttls(server: ServerProcess, injected: bytes = b"") -> Iterator[socket.socket]:
    """A connection of a client that has asked for TLS, with `injected` behind it."""
    with server.connect() as client:
        assert receive_exactly(client, 21) == b"220 localhost ESMTP\r\n"
        client.sendall(b"STARTTLS\r\n" + injected)
        assert receive_exactly(client, 14) == b"220 go ahead\r\n"
        yield client


def told(server: ServerProcess, client: socket.socket) -> str:
    """What the log says of the end of its connection."""
    port = client.getsockname()[1]
    found = server.wait_for(rf"closed the connection from .*, {port}\): handshake failed (.*)")
    return found[1]


def test_smtplib(server, pki):
    context = client_context(pki.ca)
    with smtplib.SMTP("localhost", server.port, timeout=PATIENCE) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert client.noop() == (250, b"plain text")
        assert client.starttls(context=context) == (220, b"go ahead")
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.noop() == (250, b"TLSv1.3")


def test_openssl(server, pki):
    command = f"openssl s_client -starttls smtp -connect localhost:{server.port} -quiet -crlf"
    done = subprocess.run(
        [*command.split(), "-CAfile", str(pki.ca), "-verify_return_error"],
        input=b"NOOP\nBYE\n",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"250 TLSv1.3\r\n" in done.stdout


def test_our_own_client(server, pki):
    async def main():
        async with await anysock.connect(f"localhost:{server.port}") as connection:
            await connection.recv_line()
            await connection.send_all(b"STARTTLS\r\n")
            await connection.recv_line()
            await connection.start_tls(client_context(pki.ca), server_side=False)
            await connection.send_all(b"NOOP\r\n")
            assert await connection.recv_line() == b"250 TLSv1.3\r\n"

    anysock.run(main, engine=server.engine)


def test_a_command_in_plain_text_is_never_taken_for_one_by_tls(server, pki):
    """CVE-2011-0411: behind STARTTLS, an attacker adds commands of its own."""
    with at_starttls(server, b"NOOP\r\n") as client:
        assert receive_all(client) == b""
        assert re.match(
            r"\(6 bytes came in plain text behind the client's last", told(server, client)
        )


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"NOOP\r\n", r"\(plain text where TLS was to begin: b'NOOP\\r\\n'\)"),
        (b"", r"\(the TLS handshake took longer than 0.5 seconds\)"),
        (None, r"\(the client left before the TLS handshake\)"),
    ],
    ids=["plain text", "silence", "the end of the stream"],
)
def test_what_comes_instead_of_a_handshake_is_told_in_one_line(server, sent, says):
    with at_starttls(server) as client:
        if sent is None:
            client.shutdown(socket.SHUT_WR)
        else:
            client.sendall(sent)
        receive_all(client)
        assert re.fullmatch(says, told(server, client))


@pytest.mark.parametrize("handler", ["echo", "lines"])
def test_a_handler_that_never_starts_tls_needs_an_address_that_speaks_it(handler, pki):
    with pytest.raises(anysock.UsageError, match="--tls-cert: no --bind address uses TLS"):
        anysock.Server(handler, tls_cert=pki.server.both)
