"""How talk, ping and load are told where to go: alike, and what is wrong in words that help."""

from __future__ import annotations

import pytest

from anysock.cli.where import read_address
from anysock.errors import UsageError
from anysock.net.addresses import Address
from tests.commands.running import anysock, refused

CLIENTS = {
    "talk": (),
    "ping": ("-c", "1"),
    "load": ("-q", "-c", "1", "--messages", "1"),
}


@pytest.mark.parametrize("command", CLIENTS)
def test_every_client_takes_an_address_or_a_host_and_a_port(start_server, command):
    server = start_server()
    for where in ([f":{server.port}"], ["localhost", str(server.port)]):
        anysock(command, *where, *CLIENTS[command], typed="hello\n")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost", Address("localhost", 7)),
        ("127.0.0.1", Address("127.0.0.1", 7)),
        ("::1", Address("::1", 7)),
        ("[::1]", Address("::1", 7)),
        ("fe80::1%eth0", Address("fe80::1%eth0", 7)),
        ("tls://a.example", Address("a.example", 7, "tls")),
        ("udp://::1", Address("::1", 7, "udp")),
        ("", Address("127.0.0.1", 7)),
    ],
)
def test_a_host_and_a_port(host, address):
    assert read_address(host, "7") == address
    assert read_address(str(address), None) == address


@pytest.mark.parametrize("address", ["localhost:7", "[::1]:7", ":7", "unix:///run/echo"])
def test_an_address_that_has_a_port_takes_no_other(address):
    with pytest.raises(UsageError, match=r"is all that is needed: what is '8' after it\?"):
        read_address(address, "8")


@pytest.mark.parametrize("command", CLIENTS)
@pytest.mark.parametrize("where", [["nowhere"], ["sctp://a:7"], ["fd://3"], ["localhost", "http"]])
def test_only_what_a_client_takes_is_offered(command, where):
    line = refused(command, *where)
    _, _, offered = line.rpartition(": ")
    _, separator, uses = line.partition(", use ")
    assert "unix://" in line
    assert "systemd://" not in line
    assert "fd://" not in (uses if separator else offered)
