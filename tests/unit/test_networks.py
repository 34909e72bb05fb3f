"""Which source a peer is, and which network it is in."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.net.networks import Network, contains, source_of
from anysock.options.serve import ServeOptions

v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str).filter(lambda host: not host.startswith("::ffff:"))
ports = st.integers(0, 65535)


def peer_of(host: str, port: int = 5) -> tuple[object, ...]:
    return (host, port, 0, 0) if ":" in host else (host, port)


@given(v4, ports, ports)
def test_an_ipv4_address_is_a_source_whatever_the_port(host, one, other):
    assert source_of((host, one)) == source_of((host, other)) == host


@given(v4)
def test_ipv4_in_the_clothes_of_ipv6_is_the_same_source(host):
    assert source_of((f"::ffff:{host}", 5, 0, 0)) == host


@given(st.ip_addresses(v=6, network="2001:db8::/32"), st.integers(0, 2**64 - 1))
def test_a_network_of_64_bits_is_one_source(host, rest):
    neighbour = ipaddress.IPv6Address(int(host) & ~(2**64 - 1) | rest)
    stranger = ipaddress.IPv6Address(int(host) ^ 2**64)
    assert source_of(peer_of(str(host))) == source_of(peer_of(str(neighbour)))
    assert source_of(peer_of(str(host))) != source_of(peer_of(str(stranger)))


def test_a_scope_is_no_part_of_the_source():
    assert source_of(("fe80::1%eth0", 5, 0, 2)) == source_of(("fe80::2%lo", 5, 0, 1)) == "fe80::/64"


def test_who_comes_through_a_unix_socket_can_not_choose_its_source():
    assert source_of("unix") == source_of("/tmp/mine") == source_of("@mine") == "unix"


def networks(*texts: str) -> Sequence[Network]:
    return ServeOptions(allow=texts).allow  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "host", "inside"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.1.2.3/8", "10.255.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "10.0.0.1", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.9.0.1", True),
        ("::ffff:10.0.0.0/104", "11.0.0.1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("0.0.0.0/0", "::1", False),
        ("::/0", "10.0.0.1", False),
        ("::/0", "2001:db8::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("2001:db8::/32", "2001:db9::1", False),
    ],
)
def test_networks(network, host, inside):
    assert contains(networks(network), peer_of(host)) is inside


@given(v4 | v6, st.integers(0, 128))
def test_everybody_is_in_a_network_of_its_own(host, bits):
    bits = min(bits, ipaddress.ip_address(host).max_prefixlen)
    assert contains(networks(f"{host}/{bits}"), peer_of(host))
