"""What a ClientHello asks for: read from those of OpenSSL, and from what is none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.net.tls_hello import Asked, HelloWatch, read_hello


def hello_of(name: str | None, alpn: list[str], version: ssl.TLSVersion) -> bytes:
    """A record with OpenSSL's ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


REAL = hello_of("www.example.com", ["h2", "http/1.1"], ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", [None, "www.example.com", "127.0.0.1"])
@pytest.mark.parametrize("alpn", [[], ["h2"], ["h2", "http/1.1"]])
def test_a_real_one(version, name, alpn):
    asked = read_hello(hello_of(name, alpn, version)[9:])
    # An address is never asked for (RFC 6066, 3).
    assert asked.server_name == (None if name == "127.0.0.1" else name)
    assert asked.alpn == tuple(each.encode() for each in alpn)


@given(st.data())
def test_however_it_is_cut_into_records_and_pieces_it_says_the_same(data):
    message, watch = REAL[5:], HelloWatch()
    while message:
        watch.begin(0x16, b"")
        size = data.draw(st.integers(1, len(message)))
        record, message = message[:size], message[size:]
        while record:
            assert watch.asked is None
            cut = data.draw(st.integers(1, len(record)))
            assert watch.follow(record[:cut]) is None
            record = record[cut:]
    assert watch.asked == Asked("www.example.com", (b"h2", b"http/1.1"))


@given(st.binary(max_size=200))
def test_what_is_none_says_nothing_and_breaks_nothing(body):
    asked = read_hello(body)
    assert asked.server_name is None or asked.server_name.isascii()


@given(st.integers(0, len(REAL) - 10), st.integers(0, 255), st.integers(0, len(REAL)))
def test_one_that_is_changed_and_cut_breaks_nothing(at, byte, end):
    body = bytearray(REAL[9:])
    body[at] = byte
    asked = read_hello(bytes(body[:end]))
    name = asked.server_name
    assert name is None or all(0x21 <= ord(char) < 0x7F for char in name)


def test_a_name_with_what_no_name_has_is_none():
    for name in (b"a\0b", b"a b", b"\xff", b""):
        host = b"\0" + len(name).to_bytes(2, "big") + name
        data = len(host).to_bytes(2, "big") + host
        extension = b"\0\0" + len(data).to_bytes(2, "big") + data
        body = bytes(34) + b"\0" + b"\0\0" + b"\0" + len(extension).to_bytes(2, "big") + extension
        assert read_hello(body) == Asked()


def test_a_second_one_changes_nothing():
    """As after a HelloRetryRequest, where the client must ask for the same (RFC 8446, 4.1.2)."""
    watch = HelloWatch()
    for hello in (REAL, hello_of("other.example", [], ssl.TLSVersion.TLSv1_3)):
        watch.begin(0x16, b"")
        assert watch.follow(hello[5:]) is None
    assert watch.asked is not None
    assert watch.asked.server_name == "www.example.com"
