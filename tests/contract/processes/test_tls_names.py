"""Several certificates on one listener, chosen by the name that the client asks for (SNI), and
protocols (ALPN): the real server, with Python's ssl, openssl, and our own client."""

from __future__ import annotations

import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import anysock
from anysock.net.certificates import client_context, default_client_context
from tests.harness import ENGINES, PATIENCE, ServerProcess
from tests.pki import TLS12, TLS13, Identity, Pki

WHO = """
async def who(connection):
    tls = connection.tls
    await connection.send_all(f"{tls.server_name} {tls.alpn}\\n".encode())
"""


class Running(NamedTuple):
    server: ServerProcess
    second: Identity


@pytest.fixture(scope="module", params=ENGINES)
def running(request, pki, tmp_path_factory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.py").write_text(WHO)
    first = pki.issue(f"first-{request.param}", "first.example", "localhost")
    second = pki.issue(f"second-{request.param}", "*.example.com", "second.example")
    server = ServerProcess(
        "names:who",
        *("--tls-cert", str(first.cert), "--tls-key", str(first.key)),
        *("--tls-cert", str(second.cert), "--tls-key", str(second.key)),
        *("--tls-alpn", "h2,http/1.1"),
        engine=request.param,
        bind="tls://127.0.0.1:0",
        cwd=folder,
    )
    server.expected_errors += ["handshake failed"]
    try:
        yield Running(server, second)
        server.check()
    finally:
        server.kill()


class Answer(NamedTuple):
    #: What the server has found that the client asks for, and the protocol.
    told: bytes
    #: The first name of the certificate that it has shown, and its number.
    certificate: str
    serial: str


def ask(
    server: ServerProcess,
    pki: Pki,
    name: str | None,
    alpn: list[str] | None = None,
    version: ssl.TLSVersion = TLS13,
) -> Answer:
    """As a client of Python's ssl."""
    context = ssl.create_default_context(cafile=pki.ca)
    context.check_hostname = False
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    with context.wrap_socket(server.connect(), server_hostname=name) as tls:
        told = tls.recv(100)
        shown = tls.getpeercert()
        assert shown is not None
        names: object = shown["subjectAltName"]
        assert isinstance(names, tuple)
        return Answer(told, names[0][1], str(shown["serialNumber"]))


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
@pytest.mark.parametrize(
    ("name", "certificate"),
    [
        (None, "first.example"),
        ("first.example", "first.example"),
        ("unknown.example", "first.example"),
        ("second.example", "*.example.com"),
        ("www.example.com", "*.example.com"),
    ],
)
def test_the_certificate_is_the_one_for_the_name(running, pki, name, certificate, version):
    answer = ask(running.server, pki, name, version=version)
    assert answer.certificate == certificate
    assert answer.told == f"{name} None\n".encode()


@pytest.mark.parametrize("name", [None, "www.example.com"])
def test_the_protocol_is_the_servers_favourite_of_those_that_are_offered(running, pki, name):
    assert ask(running.server, pki, name, ["http/1.1", "h2"]).told.endswith(b" h2\n")
    assert ask(running.server, pki, name, ["h3", "http/1.1"]).told.endswith(b" http/1.1\n")


def test_who_offers_only_other_protocols_is_refused(running, pki):
    """RFC 7301, 3.2."""
    server = running.server
    for version in ("-tls1_2", "-tls1_3"):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-alpn", "h3", version],
            input=b"",
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert b"tlsv1 alert no application protocol" in done.stderr
    server.wait_for(r"handshake failed \(no application protocol in common: the client offers h3\)")


@pytest.fixture
def trusted(pki, monkeypatch):
    """The system trusts the authority of the tests."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.ca))
    default_client_context.cache_clear()
    yield
    default_client_context.cache_clear()


@pytest.mark.usefixtures("trusted")
def test_our_own_client_is_told_what_was_chosen(running, pki):
    address = f"tls://localhost:{running.server.port}"

    async def main() -> None:
        async with await anysock.connect(address, alpn=["h3", "h2"]) as connection:
            assert connection.tls is not None
            assert (connection.tls.server_name, connection.tls.alpn) == ("localhost", "h2")
        with pytest.raises(anysock.TlsError, match=r"none of the protocols that we offer \(ALPN\)"):
            await anysock.connect(address, alpn=["h3"])
        ours = client_context(pki.ca)
        ours.set_alpn_protocols(["http/1.1"])
        async with await anysock.connect(address, tls=ours) as connection:
            assert connection.tls is not None
            assert connection.tls.alpn == "http/1.1"
        with pytest.raises(anysock.UsageError, match=r"alpn= is for a context of ours"):
            await anysock.connect(address, tls=ours, alpn=["h2"])
        with pytest.raises(anysock.UsageError, match=r"alpn= is for an address that begins with"):
            await anysock.connect("localhost:7", alpn=["h2"])

    anysock.run(main, engine=running.server.engine)


def test_a_session_is_resumed_with_each_of_them(running, pki):
    context = ssl.create_default_context(cafile=pki.ca)
    context.check_hostname = False
    for name in ("first.example", "www.example.com"):
        session: ssl.SSLSession | None = None
        for resumed in (False, True):
            with context.wrap_socket(
                running.server.connect(), server_hostname=name, session=session
            ) as tls:
                assert tls.recv(100).startswith(name.encode())
                assert tls.session_reused is resumed
                session = tls.session


def test_all_are_read_again_on_sighup(running, pki):
    server, second = running
    before = ask(server, pki, "second.example")
    renewed = pki.issue("renewed", "second.example")
    for old, new in ((second.cert, renewed.cert), (second.key, renewed.key)):
        Path(old).write_bytes(new.read_bytes())
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded")
    after = ask(server, pki, "second.example")
    assert after.serial != before.serial
    assert ask(server, pki, "www.example.com").certificate == "first.example"


def test_keys_are_as_many_as_certificates():
    with pytest.raises(anysock.UsageError, match="--tls-key: give one for each --tls-cert"):
        anysock.Server("echo", bind="tls://:0", tls_cert=["a", "b"], tls_key="c")
