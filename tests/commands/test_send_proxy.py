"""``--send-proxy`` and ``--send-proxy-v2``: ping, load and talk as a proxy's connections begin."""

from __future__ import annotations

import queue

import pytest

from anysock.net.proxy_protocol import Header, HeaderParser
from tests.bad_servers import bad_server, echo
from tests.commands.running import anysock, refused

CLIENTS = {
    "talk": (),
    "ping": ("-c", "1"),
    "load": ("-q", "-c", "1", "--messages", "1"),
}
FLAGS = {1: "--send-proxy", 2: "--send-proxy-v2"}


@pytest.mark.parametrize("version", FLAGS)
@pytest.mark.parametrize("command", CLIENTS)
def test_each_connection_begins_with_the_header_of_its_own_ends(command, version):
    found: queue.Queue[tuple[Header, tuple[str, int]]] = queue.Queue()

    def take_the_header(client):
        parser = HeaderParser()
        header = None
        while header is None:
            header = parser.feed(client.recv(parser.wanted))
        found.put((header, client.getpeername()))
        echo(client)

    with bad_server(take_the_header) as port:
        done = anysock(command, f":{port}", FLAGS[version], *CLIENTS[command], typed="hello\n")
    header, peer = found.get_nowait()
    assert header.version == version
    assert header.source == peer
    assert header.destination == ("127.0.0.1", port)
    if command == "talk":
        assert done.stdout == "hello\n" or done.stdout == "hello\r\n"


def test_a_server_that_wants_it_serves_who_sends_it_and_nobody_else(start_server, pki):
    server = start_server(
        *("echo", "--proxy-protocol", "required", "--proxy-from", "127.0.0.1"),
        *("--tls-cert", str(pki.server.cert), "--tls-key", str(pki.server.key)),
        bind="tls://127.0.0.1:0",
    )
    server.expected_errors = ["bad PROXY header", "like this were not told"]
    address, trust = f"tls://127.0.0.1:{server.port}", ("--tls-ca", str(pki.ca))
    # It stands before the handshake of TLS.
    for command, options in CLIENTS.items():
        anysock(command, address, *trust, "--send-proxy-v2", *options, typed="hello\n")
    anysock("ping", address, *trust, *CLIENTS["ping"], code=1)


@pytest.mark.parametrize("flag", FLAGS.values())
def test_over_a_unix_socket(start_server, tmp_path, flag):
    address = f"unix://{tmp_path}/echo"
    start_server("echo", "--proxy-protocol", "required", bind=address)
    anysock("ping", address, "-c", "1", flag)


@pytest.mark.parametrize("command", CLIENTS)
def test_bad_usage(command):
    assert "one header" in refused(command, ":7", *FLAGS.values())
    assert "datagrams carry no" in refused(command, "udp://127.0.0.1:7", "--send-proxy")
