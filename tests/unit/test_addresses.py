from __future__ import annotations

import errno
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.engines.posix.machine import MACHINE
from anysock.errors import StartError, UsageError
from anysock.net.addresses import (
    CONNECTABLE,
    REACHABLE,
    Address,
    explain_bind_error,
    format_peer,
    format_sockaddr,
    resolve,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 8000),
        ("localhost:0", "localhost", 0),
        ("[::1]:7", "::1", 7),
        ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
        ("tcp://127.0.0.1:8000", "127.0.0.1", 8000),
        ("tcp://[::]:65535", "::", 65535),
        (":8000", "", 8000),
    ],
)
def test_addresses_are_read(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write host:port"),
        ("127.0.0.1", "write host:port"),
        ("localhost:", "write host:port"),
        ("localhost:http", "write host:port"),
        ("localhost:-1", "write host:port"),
        ("localhost:65536", "from 0 to 65535"),
        ("localhost:100000", "from 0 to 65535"),
        ("[::1]", "write host:port"),
        ("local host:80", "write host:port"),
        ("a\nb:80", "write host:port"),
        ("127.0.0.1\0.example:80", "write host:port"),
        ("[not:v6]:80", "brackets are for IPv6"),
        ("[fe80::1%]:80", "brackets are for IPv6"),
        ("::1:8000", "in brackets"),
        ("[127.0.0.1]:80", "brackets are for IPv6"),
        ("sctp://localhost:7", "unknown scheme 'sctp'"),
        ("unix://", "write unix:///path"),
        ("unix:///run/a?mode=9", "mode=660"),
        ("unix:///" + "x" * 107, "at most 107 bytes"),
        ("unix://@echo?mode=660", "an abstract socket has no file"),
        ("unix:///\ud800", "can't be the path of a file"),
        ("fd://x", "the descriptor's number"),
        ("systemd://a:b", "systemd://NAME"),
        ("://localhost:7", "unknown scheme ''"),
    ],
)
def test_what_is_no_address_is_told_in_one_line(text, says):
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tls://a:1", Address("a", 1, "tls")),
        ("udp://[::1]:1", Address("::1", 1, "udp")),
        ("unix:///run/echo", Address(scheme="unix", path="/run/echo")),
        ("unix://echo?mode=660", Address(scheme="unix", path="echo", mode=0o660)),
        ("unix://@echo", Address(scheme="unix", path="@echo")),
        ("tls+unix:///a%20b", Address(scheme="tls+unix", path="/a b")),
        ("fd://3", Address(scheme="fd", fd=3)),
        ("systemd://", Address(scheme="systemd")),
        ("tls+systemd://web", Address(scheme="tls+systemd", name="web")),
    ],
)
def test_schemes(text, address):
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address
    assert address.tls == text.startswith("tls")


def test_a_default_stands_in_for_no_host_alone():
    assert Address.parse(":80", default_host="::1") == Address("::1", 80)
    assert Address.parse("tcp://a:80", default_host="::1") == Address("a", 80)
    assert Address.parse("[::2]:80", default_host="::1") == Address("::2", 80)


@pytest.mark.parametrize(
    ("text", "schemes", "says"),
    [
        (
            "udp://a:7",
            CONNECTABLE,
            "over UDP there are no connections, use tcp://, tls://, unix://",
        ),
        ("fd://3", REACHABLE, "fd:// is for a server, to listen on, use tcp://, tls://, udp://"),
        ("nowhere", ("tcp",), "write host:port or [v6]:port"),
        ("nowhere", CONNECTABLE, "write host:port, [v6]:port, tcp:// or tls:// before it, or unix"),
    ],
)
def test_only_what_the_caller_takes_is_offered(text, schemes, says):
    with pytest.raises(UsageError) as caught:
        Address.parse(text, schemes=schemes)
    assert says in str(caught.value)
    assert "systemd" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a.example", "a.example"),
        ("a.example.", "a.example"),  # RFC 6066, 3: without a trailing dot
        ("fe80::1%eth0", "fe80::1"),
        ("", "localhost"),
    ],
)
def test_whom_a_client_of_tls_asks_for(host, name):
    assert Address(host, 7, "tls").server_name == name


hosts = st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True) | st.ip_addresses().map(str)


@given(host=hosts, port=st.integers(0, 65535))
def test_an_address_reads_as_it_is_written(host, port):
    address = Address(host, port)
    assert Address.parse(str(address)) == address


paths = st.binary(min_size=1, max_size=107).filter(lambda path: b"\0" not in path)


@given(paths, st.none() | st.integers(0, 0o7777))
def test_a_path_reads_as_it_is_written_whatever_bytes_it_has(path, mode):
    if path.startswith(b"@"):
        mode = None
    address = Address(scheme="unix", path=os.fsdecode(path), mode=mode)
    assert Address.parse(str(address)) == address
    assert str(address).isascii()


@given(st.text(max_size=30) | st.from_regex(r"(tcp://)?\[[0-9a-f:%]*\]:[0-9]{1,10}"))
def test_any_text_is_an_address_or_a_usage_error(text):
    try:
        address = Address.parse(text)
    except UsageError:
        return
    assert 0 <= address.port <= 65535


def test_no_host_means_everything_to_listen_on_and_ourselves_to_connect_to():
    listen = {found.sockaddr[0] for found in resolve(Address("", 80), MACHINE, passive=True)}
    connect = {found.sockaddr[0] for found in resolve(Address("", 80), MACHINE, passive=False)}
    assert "0.0.0.0" in listen
    assert "127.0.0.1" in connect


def test_each_address_of_a_name_comes_once():
    found = resolve(Address("localhost", 80), MACHINE, passive=True)
    assert len(found) == len(set(found))
    assert all(family in (socket.AF_INET, socket.AF_INET6) for family, _ in found)


def test_a_name_that_is_not_known_says_so():
    with pytest.raises(StartError, match=r"can't resolve the host 'no\.such\.host\.invalid'"):
        resolve(Address("no.such.host.invalid", 80), MACHINE, passive=False)


def test_an_impossible_name_says_so():
    with pytest.raises(StartError, match="can't resolve the host"):
        resolve(Address("a" * 64 + ".example", 80), MACHINE, passive=False)


def test_names_are_told_from_numbers():
    assert Address("localhost", 1).is_name
    for literal in ("127.0.0.1", "127.1", "::1", "fe80::1%lo", ""):
        assert not Address(literal, 1).is_name


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EADDRINUSE, "another program listens there; stop it, or choose another port"),
        (errno.EACCES, "a port below 1024 needs the right to it"),
        (errno.EADDRNOTAVAIL, "no interface of this machine has that address"),
        (errno.EINVAL, "Invalid argument"),
    ],
)
def test_a_bind_error_says_what_to_do(code, says):
    error = OSError(code, "whatever")
    error.filename = ("::1", 80, 0, 0)
    explained = str(explain_bind_error(error))
    assert explained.startswith("can't listen on tcp://[::1]:80: ")
    assert says in explained


@pytest.mark.parametrize(
    ("where", "code", "says"),
    [
        (
            "/run/a",
            errno.EADDRINUSE,
            "can't listen on unix:///run/a: Address already in use: another",
        ),
        ("@a", errno.EADDRINUSE, "can't listen on unix://@a: Address already in use: another pro"),
        ("/run/a", errno.ENOTSOCK, "a file is there that is no socket; remove it"),
        ("/run/a", errno.EACCES, "this user may not write in that folder"),
        ("/no/a", errno.ENOENT, "there is no such folder"),
        ("fd://3", errno.EBADF, "can't listen on fd://3: there is no such descriptor"),
        ("fd://3", errno.ENOTSOCK, "can't listen on fd://3: it is no socket"),
    ],
)
def test_so_does_one_on_a_unix_socket_or_a_descriptor(where, code, says):
    error = OSError(code, "whatever")
    error.filename = where
    assert says in str(explain_bind_error(error))


def test_socket_addresses_are_written_like_addresses():
    assert format_sockaddr("/run/a b") == "unix:///run/a%20b"
    assert format_sockaddr("@a") == "unix://@a"
    assert format_sockaddr(("127.0.0.1", 8000)) == "tcp://127.0.0.1:8000"
    assert format_sockaddr(("::1", 8000, 0, 0)) == "tcp://[::1]:8000"


def test_a_link_local_address_has_its_interface_with_it():
    index, name = socket.if_nameindex()[0]
    local = ("fe80::1", 8000, 0, index)
    assert format_sockaddr(local) == f"tcp://[fe80::1%{name}]:8000"
    assert format_peer(local) == f"[fe80::1%{name}]:8000"
    # As Python told it before 3.7, and as a proxy may.
    assert format_peer(("fe80::1%x", 8000, 0, index)) == "[fe80::1%x]:8000"
    gone = max(each for each, _ in socket.if_nameindex()) + 1000
    assert format_sockaddr(("fe80::1", 8000, 0, gone), "tls") == f"tls://[fe80::1%{gone}]:8000"
    [(family, sockaddr)] = resolve(Address.parse(format_sockaddr(local)), MACHINE, passive=False)
    assert (family, sockaddr) == (socket.AF_INET6, local)
