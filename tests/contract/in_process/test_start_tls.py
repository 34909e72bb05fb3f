"""`Connection.start_tls` under every engine: TLS from the middle of a conversation, and what an
attacker may have put there before. (Real clients: `tests/contract/processes/test_start_tls.py`.)"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

import anysock
from anysock.net.certificates import client_context, server_context
from anysock.telemetry.events import CloseReason
from tests.harness import PATIENCE, receive_all, receive_exactly
from tests.told import Told


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """The address of a server without a line of ours, which calls `serve` with its one client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def run() -> None:
            client, _ = listener.accept()
            with client, contextlib.suppress(OSError):
                client.settimeout(PATIENCE)
                serve(client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"localhost:{listener.getsockname()[1]}"
        finally:
            thread.join()


def line_of(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += receive_exactly(client, 1)
    return line


def speak_tls(client: socket.socket, pki) -> None:
    """A greeting; then TLS, and each line back in capitals."""
    client.sendall(b"220 hello\r\n")
    assert line_of(client) == b"STARTTLS\r\n"
    client.sendall(b"220 go ahead\r\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pki.server.both)
    with context.wrap_socket(client, server_side=True) as secure:
        while line := secure.recv(65536):
            secure.sendall(line.upper())


async def ask_for_tls(connection: anysock.Connection) -> None:
    assert await connection.recv_line() == b"220 hello\r\n"
    await connection.send_all(b"STARTTLS\r\n")
    assert (await connection.recv_line()).startswith(b"220 ")


def test_after_lines_in_plain_text_tls_is_spoken(engine, pki):
    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            assert connection.tls is None
            # The name that the certificate is checked for is the one that was connected to.
            await connection.start_tls(client_context(pki.ca), server_side=False)
            assert connection.tls is not None
            assert connection.tls.version == "TLSv1.3"
            before = connection.bytes_sent
            await connection.send_all(b"one\ntwo\n")
            assert await connection.recv_line() == b"ONE\n"
            assert connection.buffered == 4
            assert await connection.recv() == b"TWO\n"
            assert connection.bytes_sent == before + 8

    with raw_server(lambda client: speak_tls(client, pki)) as address:
        anysock.run(main, address, engine=engine)


def test_a_certificate_for_another_name_is_refused(engine, pki):
    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            with pytest.raises(anysock.TlsError, match="can't trust the server's certificate"):
                await connection.start_tls(
                    client_context(pki.ca), server_side=False, server_name="other.example"
                )
            with pytest.raises(anysock.TlsError, match="can't trust the server's certificate"):
                await connection.send_all(b"secret\n")

    with raw_server(lambda client: speak_tls(client, pki)) as address:
        anysock.run(main, address, engine=engine)


# -- what an attacker on the way may do ------------------------------------------------------------


def test_an_answer_that_came_in_plain_text_is_never_taken_for_one_by_tls(engine, pki):
    """The twin of CVE-2011-0411: to the answer in plain text, an attacker adds another."""

    def attack(client: socket.socket) -> None:
        client.sendall(b"220 hello\r\n")
        line_of(client)
        client.sendall(b"220 go ahead\r\n250 I am whom you trust\r\n")
        assert receive_all(client) == b""

    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            told = r"^25 bytes came in plain text behind the server's last line before TLS"
            with pytest.raises(anysock.TlsInjection, match=told):
                await connection.start_tls(client_context(pki.ca), server_side=False)
            assert connection.buffered == 0
            for after in (
                connection.recv,
                connection.recv_line,
                lambda: connection.recv_exactly(1),
                lambda: connection.send_all(b"secret\r\n"),
                connection.send_eof,
            ):
                with pytest.raises(anysock.TlsInjection):
                    await after()
            # And not by a second try.
            with pytest.raises(anysock.TlsInjection):
                await connection.start_tls(client_context(pki.ca), server_side=False)

    with raw_server(attack) as address:
        anysock.run(main, address, engine=engine)


def test_what_was_put_back_is_no_part_of_tls_either(engine, pki):
    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            connection.unread(b"250 from before\r\n")
            with pytest.raises(anysock.TlsInjection):
                await connection.start_tls(client_context(pki.ca), server_side=False)

    with raw_server(lambda client: speak_tls(client, pki)) as address:
        anysock.run(main, address, engine=engine)


def test_plain_text_that_comes_later_fails_in_the_handshake(engine, pki):
    def attack(client: socket.socket) -> None:
        client.sendall(b"220 hello\r\n")
        line_of(client)
        client.sendall(b"220 go ahead\r\n")
        receive_exactly(client, 5)  # of the ClientHello
        client.sendall(b"250 I am whom you trust\r\n")
        receive_all(client)

    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            told = "the server does not speak TLS: it said b'250 I am"
            with pytest.raises(anysock.TlsError, match=told):
                await connection.start_tls(client_context(pki.ca), server_side=False)
            with pytest.raises(anysock.TlsError, match=told):
                await connection.recv_line()

    with raw_server(attack) as address:
        anysock.run(main, address, engine=engine)


def test_a_handshake_that_is_given_up_leaves_nothing_to_receive_or_send(engine, pki):
    def fall_silent(client: socket.socket) -> None:
        client.sendall(b"220 hello\r\n")
        line_of(client)
        client.sendall(b"220 go ahead\r\n")
        receive_all(client)

    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            async with anysock.move_on_after(0.05) as scope:
                await connection.start_tls(client_context(pki.ca), server_side=False)
            assert scope.fired
            with pytest.raises(anysock.TlsError, match="the TLS handshake was given up on its way"):
                await connection.recv()
            with pytest.raises(anysock.TlsError, match="the TLS handshake was given up on its way"):
                await connection.send_all(b"secret")

    with raw_server(fall_silent) as address:
        anysock.run(main, address, engine=engine)


# -- what was not meant so -------------------------------------------------------------------------


def test_what_makes_no_sense_is_refused_and_nothing_has_happened(engine, pki):
    context = client_context(pki.ca)

    async def main(address):
        async with await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            connection.unread(b"x")
            with pytest.raises(anysock.UsageError, match="takes an ssl"):
                await connection.start_tls("x.pem", server_side=False)  # type: ignore[arg-type]
            with pytest.raises(anysock.UsageError, match="there is no certificate to show"):
                await connection.start_tls(server_side=True)
            with pytest.raises(anysock.UsageError, match="server_name= is for the side of the cl"):
                await connection.start_tls(context, server_side=True, server_name="localhost")
            with pytest.raises(anysock.UsageError, match="TLS can't ask for a host 'a"):
                await connection.start_tls(context, server_side=False, server_name="a..b")
            with pytest.raises(anysock.UsageError, match="SSLContext is for the other side"):
                await connection.start_tls(context, server_side=True)
            with pytest.raises(anysock.UsageError, match="SSLContext is for the other side"):
                await connection.start_tls(server_context(pki.server.both), server_side=False)
            connection.server_name = None
            with pytest.raises(anysock.UsageError, match="server_name= is missing"):
                await connection.start_tls(context, server_side=False)
            assert connection.tls is None
            assert await connection.recv_exactly(1) == b"x"
            await connection.start_tls(context, server_side=False, server_name="localhost")

    with raw_server(lambda client: speak_tls(client, pki)) as address:
        anysock.run(main, address, engine=engine)


def test_it_is_refused_while_another_task_receives_or_sends(concurrent_engine, pki):
    def fall_silent(client: socket.socket) -> None:
        client.sendall(b"220 hello\r\n")
        line_of(client)
        client.sendall(b"220 go ahead\r\n")
        line_of(client)
        client.sendall(b"250 more\r\n")
        receive_exactly(client, 5)  # of the ClientHello
        over.wait(PATIENCE)

    over = threading.Event()

    async def main(address):
        context = client_context(pki.ca)
        async with anysock.timeout(PATIENCE), await anysock.connect(address) as connection:
            await ask_for_tls(connection)
            receiver = anysock.spawn(connection.recv_line())
            while not connection.stream.receiving:
                await anysock.sleep(0)
            with pytest.raises(anysock.StreamBusy, match="while another task receives here"):
                await connection.start_tls(context, server_side=False)
            await connection.send_all(b"MORE\r\n")
            assert await receiver.join() == b"250 more\r\n"
            # Nor may one begin meanwhile.
            starting = anysock.spawn(connection.start_tls(context, server_side=False))
            while not connection.stream.receiving:
                await anysock.sleep(0.001)
            with pytest.raises(anysock.StreamBusy):
                await connection.recv()
            with pytest.raises(anysock.StreamBusy):
                await connection.send_all(b"secret")
            with pytest.raises(anysock.StreamBusy):
                await connection.start_tls(context, server_side=False)
            connection.abort()
            with contextlib.suppress(OSError):
                await starting.join()
            over.set()

    with raw_server(fall_silent) as address:
        anysock.run(main, address, engine=concurrent_engine)


# -- in a server -----------------------------------------------------------------------------------


async def smtp(connection: anysock.Connection) -> None:
    await connection.send_all(b"220 hello\r\n")
    async for line in connection.lines():
        if line == b"STARTTLS\r\n":
            await connection.send_all(b"220 go ahead\r\n")
            await connection.start_tls(server_side=True)
        else:
            await connection.send_all(line.upper())


def closed(engine, pki, talk, **options) -> list[tuple[CloseReason, OSError | None]]:
    """How the connections of a server of `smtp` have ended that ``talk(connection)`` has had."""
    told = Told()

    async def main():
        keywords = {"bind": "127.0.0.1:0", "tls_cert": pki.server.both, "events": told} | options
        async with anysock.timeout(PATIENCE), anysock.Server(smtp, **keywords) as server:
            async with await anysock.connect(server.addresses[0]) as connection:
                await talk(connection)
            while server.connections:
                await anysock.sleep(0.001)

    anysock.run(main, engine=engine)
    return [(reason, error) for _, reason, error in told.of("connection_closed")]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"delay": 0.05},
        {"rate_limit": 1_000_000, "recv_size": 1000, "slice": 700},
        {"verbose": True},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_a_server_shows_its_certificates(concurrent_engine, pki, caplog, options):
    """Whatever stands around its streams: limits, faults on purpose, the trace of -v."""
    caplog.set_level(logging.DEBUG, "anysock.trace")

    async def talk(connection):
        await ask_for_tls(connection)
        await connection.start_tls(
            client_context(pki.ca), server_side=False, server_name="localhost"
        )
        await connection.send_all(b"hello\n" * 1000)
        assert await connection.recv_exactly(6000) == b"HELLO\n" * 1000

    assert closed(concurrent_engine, pki, talk, **options) == [(CloseReason.DONE, None)]
    if "verbose" in options:
        assert re.search(r"I got data: b'hello\\nhello", caplog.text)


def test_limits_are_about_the_conversation(concurrent_engine, pki):
    async def talk(connection):
        await ask_for_tls(connection)
        await connection.start_tls(
            client_context(pki.ca), server_side=False, server_name="localhost"
        )
        await connection.send_all(b"x" * 80 + b"\n")
        assert await connection.recv_line() == b"X" * 80 + b"\n"
        await connection.send_all(b"y" * 80 + b"\n")
        with contextlib.suppress(OSError):
            assert len(await connection.recv_line()) < 80

    # Of the 150 bytes, the handshake alone would take more.
    [(reason, _)] = closed(concurrent_engine, pki, talk, max_bytes=150)
    assert reason is CloseReason.MAX_BYTES


def test_a_handler_does_not_fail_by_what_comes_instead_of_tls(concurrent_engine, pki):
    async def inject(connection):
        assert await connection.recv_line() == b"220 hello\r\n"
        await connection.send_all(b"STARTTLS\r\nDATA\r\n")
        assert await connection.recv_line() == b"220 go ahead\r\n"
        with contextlib.suppress(OSError):
            assert await connection.recv_line() == b""

    async def fall_silent(connection):
        await ask_for_tls(connection)
        with contextlib.suppress(OSError):
            assert await connection.recv() == b""

    [(reason, error)] = closed(concurrent_engine, pki, inject)
    assert reason is CloseReason.HANDSHAKE
    assert isinstance(error, anysock.TlsInjection)
    assert str(error).startswith("6 bytes came in plain text behind the client's last line")
    [(reason, error)] = closed(concurrent_engine, pki, fall_silent, handshake_timeout=0.05)
    assert reason is CloseReason.HANDSHAKE
    assert str(error) == "the TLS handshake took longer than 0.05 seconds"


def test_tls_within_tls(concurrent_engine, pki):
    """As through a proxy that is spoken to by TLS itself."""

    async def talk(connection):
        for _ in range(2):
            await ask_for_tls(connection) if connection.tls is None else await again(connection)
            await connection.start_tls(
                client_context(pki.ca), server_side=False, server_name="localhost"
            )
        await connection.send_all(b"hello\n")
        assert await connection.recv_line() == b"HELLO\n"

    async def again(connection):
        await connection.send_all(b"STARTTLS\r\n")
        assert await connection.recv_line() == b"220 go ahead\r\n"

    assert closed(concurrent_engine, pki, talk) == [(CloseReason.DONE, None)]
