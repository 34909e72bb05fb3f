"""Names in a simulation: those of its hosts, localhost, and addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from anysock.engines.sim import here
from anysock.engines.sim.host import Host
from anysock.engines.sim.names import look_up
from anysock.engines.sim.network import Network


@pytest.fixture(autouse=True)
def network() -> Iterator[Network]:
    before = here.current
    network = Network()
    here.current = Host(network, "client")
    yield network
    here.current = before


def addresses(host: str | None, **more: int) -> list[str]:
    found = look_up(host, 7, type=socket.SOCK_STREAM, **more)
    assert all(address[1] == 7 and kind == socket.SOCK_STREAM for _, kind, _, _, address in found)
    return [str(address[0]) for *_, address in found]


def test_a_host_has_its_name(network):
    server = Host(network, "server")
    assert addresses("server") == [server.addresses[0]]
    assert addresses("client") == [here.current.addresses[0]]
    assert network.host_of(server.addresses[0], here.current) is server
    assert network.host_of("127.0.0.1", here.current) is here.current


def test_localhost_and_none_have_both_families():
    assert addresses("LocalHost") == ["::1", "127.0.0.1"]
    assert addresses(None) == ["::1", "127.0.0.1"]
    assert addresses(None, flags=socket.AI_PASSIVE) == ["0.0.0.0", "::"]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.1", "0x7f.1", "01.2.3.4", "256.1.1.1", "1.2.3.4 ", "::1", "0:0::1",
        "::ffff:1.2.3.4", "FD00::1", "[::1]", "", "a b", "nobody.invalid", "x" * 70, "a..b",
    ],
)  # fmt: skip
def test_all_else_is_as_the_real_ones_say(host):
    def outcome(func):
        try:
            return func(host, 7, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError) as error:
            return type(error), str(error)

    assert outcome(look_up) == outcome(socket.getaddrinfo)


def test_a_family_that_a_name_does_not_have(network):
    Host(network, "server")
    with pytest.raises(socket.gaierror) as caught:
        look_up("server", 7, family=socket.AF_INET6)
    assert caught.value.errno == socket.EAI_ADDRFAMILY
    assert addresses("localhost", family=socket.AF_INET) == ["127.0.0.1"]
