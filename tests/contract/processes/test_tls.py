"""TLS: the real server, with the tools that its users have: openssl, and Python's own ssl."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator

import pytest
import trustme

import anysock
from anysock.errors import TlsError
from anysock.net.certificates import client_context
from tests import prepared
from tests.harness import ENGINES, PATIENCE, ServerProcess, reset, send_until_stuck, wait_until
from tests.pki import TLS12, TLS13, Identity, Pki
from tests.soak import tls_fuzz
from tests.tls_client import TlsClient

# What our tests do to servers is logged as warnings.
TOLD = ["handshake failed", "aborted the connection"]


def start(engine: str, identity: Identity, *options: str, **more: str) -> ServerProcess:
    server = ServerProcess(
        "echo",
        *("--tls-cert", str(identity.cert), "--tls-key", str(identity.key), *options),
        engine=engine,
        bind=more.get("bind", "tls://127.0.0.1:0"),
    )
    server.expected_errors += TOLD
    return server


def checked(server: ServerProcess) -> Iterator[ServerProcess]:
    try:
        yield server
        server.check()
    finally:
        server.kill()


# One server an engine for most tests: each must leave it as it was.


@pytest.fixture(scope="module", params=ENGINES)
def running(request, pki) -> Iterator[ServerProcess]:
    options = ("--handshake-timeout", "1s", "--log-level", "debug")
    yield from checked(start(request.param, pki.server, *options))


@pytest.fixture
def server(running) -> Iterator[ServerProcess]:
    yield running
    running.wait_until_idle()


@pytest.fixture(scope="module", params=ENGINES)
def mutual(request, pki) -> Iterator[ServerProcess]:
    yield from checked(start(request.param, pki.server, "--tls-client-ca", str(pki.ca)))


def connect(server: ServerProcess, context: ssl.SSLContext) -> TlsClient:
    return TlsClient(server.connect(), context)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
def test_what_is_sent_comes_back(server, pki, version):
    data = bytes(range(256)) * 4000
    context = client_context(pki.ca)
    context.maximum_version = version
    with server.connect() as sock, context.wrap_socket(sock, server_hostname="localhost") as tls:
        assert exchange_by_ssl(tls, data) == data


def exchange_by_ssl(tls: ssl.SSLSocket, data: bytes) -> bytes:
    """Python's ssl can't half-close; it can say goodbye, and wait for ours."""
    received = b""
    for start in range(0, len(data), 16384):
        tls.sendall(data[start : start + 16384])
        while len(received) < min(start + 16384, len(data)):
            received += tls.recv(65536)
    tls.unwrap().close()  # raises where we do not answer with close_notify
    return received


@contextlib.contextmanager
def s_client(server: ServerProcess, pki: Pki, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """``openssl s_client``, which ends with its standard input."""
    assert shutil.which("openssl"), "these tests need the command openssl"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-quiet"]
    command += ["-no_ign_eof", "-CAfile", str(pki.ca), "-verify_return_error"]
    client = subprocess.Popen(
        [*command, "-verify_hostname", "localhost", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield client
        client.communicate(timeout=PATIENCE)
    finally:
        client.kill()
        client.wait()


def talk(client: subprocess.Popen[bytes]) -> bytes:
    """Say hello; the first line of the answer."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"hello\n")
    client.stdin.flush()
    return client.stdout.readline()


def test_openssl_talks_to_it(server, pki):
    with s_client(server, pki) as client:
        assert talk(client) == b"hello\n"
        client.communicate(timeout=PATIENCE)
        assert client.returncode == 0


def test_tls_1_1_is_refused(server, pki):
    old = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    with s_client(server, pki, *old) as client:
        _, told = client.communicate(b"hello\n", PATIENCE)
        assert client.returncode != 0
    assert b"alert protocol version" in told
    server.wait_for(r"handshake failed \(the client speaks only versions of TLS that are too old\)")


def test_after_a_half_close_all_comes_back_and_then_the_end(server, pki):
    data = bytes(range(256)) * 200
    with connect(server, client_context(pki.ca)) as client:
        client.send(data)
        client.send_eof()
        assert client.receive_all() == data


def test_plain_text_on_a_tls_port_is_one_line_and_a_close(server):
    told = r"handshake failed \(plain text on a TLS port: b'GET / HTTP/1.0"
    before = len(server.matching(told))
    assert server.ask(b"GET / HTTP/1.0\r\n\r\n") == b""
    server.wait_for(told, before + 1)
    assert server.ask(b"\0\1\2\3") == b""
    server.wait_for(r"handshake failed \(something that is no TLS on a TLS port: b'\\x00\\x01")


def test_a_client_that_does_not_shake_hands_has_a_deadline(server):
    with server.connect() as client:
        client.sendall(b"\x16\x03\x01")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    server.wait_for(r"handshake failed \(it took too long\)")


def test_an_end_without_close_notify_is_a_loss(server, pki):
    with connect(server, client_context(pki.ca)) as client:
        assert client.echo(b"all is w") == b"all is w"
    server.wait_for(r"has ended: lost \(the client ended the connection without TLS's own end\)")


def test_a_health_check_is_one_debug_line(server):
    told = r"has ended: closed before its first byte"
    for leave in (socket.socket.close, reset):
        before = len(server.matching(told))
        leave(server.connect())
        server.wait_for(told, before + 1)


def test_a_peer_that_does_not_read_does_not_grow_the_server(server, pki):
    with server.connect() as sock:
        context = client_context(pki.ca)
        with context.wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(b"x" * 100_000)
            assert client.recv(1)
            before = server.memory()
            assert send_until_stuck(client, 30_000_000, quiet=0.3) < 30_000_000
            assert server.memory() - before < 4_000_000
            reset(client)


def test_our_client_speaks_it(server, pki):
    async def main() -> bytes:
        address = f"tls://127.0.0.1:{server.port}"
        async with await anysock.connect(address, tls=client_context(pki.ca)) as connection:
            await connection.send_all(b"hello\n")
            answer = await connection.recv_line()
            await connection.send_eof()
            assert await connection.recv() == b""
        with pytest.raises(TlsError, match="can't trust the server's certificate"):
            await anysock.connect(address, tls=client_context(pki.strange_ca))
        return answer

    assert anysock.run(main, engine=server.engine) == b"hello\n"
    server.wait_for(
        r"handshake failed \(the client does not trust our certificate: it does not kno"
    )


def test_what_is_no_handshake_leaves_nothing_behind(server, pki):
    """Random bytes, and handshakes that are cut off or changed: `tests/soak/tls_fuzz.py` does it
    for as long as one likes."""
    tls_fuzz.run("127.0.0.1", server.port, 500, seed=1)
    server.wait_until_idle()
    with connect(server, client_context(pki.ca)) as client:
        assert client.echo(b"it lives") == b"it lives"
        client.send_eof()
        assert client.receive_all() == b""


@pytest.mark.parametrize("engine", ["threads", "selector", "uvloop"])
def test_it_goes_over_unix_sockets_too(engine, pki, tmp_path):
    async def main() -> None:
        address, plain = f"tls+unix://{tmp_path}/secret", f"unix://{tmp_path}/plain"
        keywords = {"tls_cert": pki.server.both, "bind": [address, plain]}
        async with anysock.timeout(PATIENCE), anysock.Server("echo", **keywords) as server:
            assert server.addresses == [address, plain]
            async with await anysock.connect(address, tls=client_context(pki.ca)) as connection:
                await connection.send_all(b"hello")
                assert await connection.recv() == b"hello"
            with pytest.raises(TlsError, match="sends back what it gets: it does not speak TLS"):
                await anysock.connect(f"tls+{plain}", tls=client_context(pki.ca))

    anysock.run(main, engine=engine)


# -- certificates of clients -----------------------------------------------------------------------


def test_only_clients_with_a_certificate_are_served(mutual, pki):
    cases = [
        ((), "the client sent no certificate"),
        (pki.strange_client, "can't trust the client's certificate: unable to get local issuer"),
    ]
    for identity, told in cases:
        shown = ("-cert", str(identity.cert), "-key", str(identity.key)) if identity else ()
        with s_client(mutual, pki, *shown) as client:
            said, _ = client.communicate(b"hello\n", PATIENCE)
        assert said == b""
        mutual.wait_for(rf"handshake failed \({told}")
    shown = ("-cert", str(pki.client.cert), "-key", str(pki.client.key))
    with s_client(mutual, pki, *shown) as client:
        assert talk(client) == b"hello\n"


WHO = """
async def who(connection):
    certificate = connection.tls.peer_certificate
    name = dict(certificate["subjectAltName"])["email"]
    await connection.send_all(f"{connection.tls.version} {name} {connection.peer[0]}\\n".encode())
"""


def test_a_handler_knows_its_client_by_its_certificate_and_behind_a_proxy(
    start_server, engine, pki, tmp_path
):
    (tmp_path / "whoami.py").write_text(WHO)
    server = start_server(
        "whoami:who",
        *("--tls-cert", str(pki.server.both), "--tls-client-ca", str(pki.ca)),
        *("--proxy-protocol", "required", "--proxy-from", "127.0.0.0/8", "--rate-limit", "1MiB/s"),
        *("--log-level", "debug"),
        engine=engine,
        bind="tls://127.0.0.1:0",
        cwd=tmp_path,
    )
    with server.connect() as sock:
        sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
        client = TlsClient(sock, client_context(pki.ca, cert=pki.client.both))
        assert client.receive_all() == b"TLSv1.3 somebody@example.org 192.0.2.7\n"
    server.wait_for(r"192\.0\.2\.7.*0 bytes in, 39 bytes out")


# -- new certificates ------------------------------------------------------------------------------


def replace(live: Identity, by: Identity) -> None:
    """As certbot does: the files are there at every moment, and each is whole."""
    for there, new in ((live.cert, by.cert), (live.key, by.key)):
        copy = there.with_suffix(".new")
        copy.write_bytes(new.read_bytes())
        copy.rename(there)


def in_der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.cert.read_text())


@pytest.fixture
def reloading(engine, pki) -> Iterator[tuple[ServerProcess, Identity]]:
    live = pki.issue("live")
    for server in checked(start(engine, live)):
        yield server, live


def test_sighup_brings_new_certificates_and_drops_nobody(reloading, pki):
    server, live = reloading
    server.expected_errors.append("not reloaded, and nothing has changed")
    context, concurrent = client_context(pki.ca), server.engine != "blocking"
    first, second = in_der(live), pki.issue("second")
    old = connect(server, context)
    assert old.certificate == first
    replace(live, second)
    server.signal(signal.SIGHUP)
    server.wait_for(r"^reloaded")
    assert old.echo(b"I am still here") == b"I am still here"
    if not concurrent:
        old.sock.close()
    with connect(server, context) as new:
        assert new.certificate == in_der(second) != first
        assert new.echo(b"and I am new") == b"and I am new"
    live.key.write_bytes(pki.server.key.read_bytes())
    server.signal(signal.SIGHUP)
    server.wait_for(
        r"^error: not reloaded, and nothing has changed: "
        rf"the key in {live.key} does not belong to"
    )
    with connect(server, context) as new:
        assert new.certificate == in_der(second)
    if concurrent:
        assert old.echo(b"all the time") == b"all the time"
        # One that is in the middle of its handshake does not hold up a drain, and is no failure.
        with server.connect() as begun:
            begun.sendall(b"\x16\x03\x01")
            server.wait_for("I got a connection", 4)
            server.signal()
            assert begun.recv(100) == b""
        assert old.receive_all() == b"", "a drain ends it in good order"
        old.sock.close()
        server.wait()


@pytest.fixture
def reloading_workers(pki) -> Iterator[tuple[ServerProcess, Identity]]:
    live = pki.issue("live")
    for server in checked(start("selector", live, "--workers", "2")):
        yield server, live


def test_sighup_to_several_processes(reloading_workers, pki):
    server, live = reloading_workers
    server.expected_errors.append("not reloaded, and nothing has changed")
    context, second = client_context(pki.ca), pki.issue("second")

    def is_new() -> bool:
        with connect(server, context) as new:
            return new.certificate == in_der(second)

    with connect(server, context) as old:
        live.key.write_bytes(pki.server.key.read_bytes())
        server.signal(signal.SIGHUP)
        server.wait_for(rf"nothing has changed: the key in {live.key} does not belong to")
        replace(live, second)
        server.signal(signal.SIGHUP)
        server.wait_for(r"takes the place of", times=2)
        # An old worker hears after its successor that it is to accept nobody more.
        wait_until(lambda: all(is_new() for _ in range(20)), "all see the new certificate")
        assert old.echo(b"I am still here") == b"I am still here"
        old.send_eof()
        assert old.receive_all() == b""


# -- at the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("cert", "told", "code"),
    [
        (None, "--tls-cert: a tls:// address needs a certificate", 2),
        (
            "no-such.pem",
            "can't read the certificate file no-such.pem: No such file or directory",
            1,
        ),
        ("ca.pem", "no private key in ca.pem: a PEM file is wanted", 1),
    ],
)
def test_a_server_without_a_good_certificate_does_not_start(pki, workers, cert, told, code):
    command = [sys.executable, "-m", "anysock", "serve", "--bind", "tls://127.0.0.1:0"]
    command += ["--workers", workers, *(("--tls-cert", cert) if cert else ())]
    done = prepared.run(
        command, cwd=pki.folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, f"anysock: {told}")
    assert "Traceback" not in done.stderr


def test_a_certificate_with_bad_dates_is_told_at_the_start_and_at_a_reload(tmp_path):
    issued = trustme.CA().issue_cert(
        "localhost", not_after=dt.datetime(2020, 1, 2, 3, 4, tzinfo=dt.UTC)
    )
    pem, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    pem.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    server = ServerProcess(
        "echo", "--tls-cert", str(pem), "--tls-key", str(key), bind="tls://127.0.0.1:0"
    )
    told = f"warning: the certificate in {pem} expired on 2020-01-02 03:04 UTC"
    server.expected_errors.append("expired on")
    try:
        server.wait_for(re.escape(told))
        server.signal(signal.SIGHUP)
        server.wait_for(re.escape(told), times=2)
    finally:
        server.kill()
