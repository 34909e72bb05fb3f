"""The PROXY protocol: bytes in, header out."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysock.net.proxy_protocol import (
    BadProxyHeader,
    Header,
    HeaderParser,
    crc32c,
    encode_v1,
    encode_v2,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def parse(data: bytes, sizes: list[int] | None = None) -> tuple[Header | None, bytes]:
    """The header at the beginning of `data`, read in such pieces at most; and what follows."""
    parser = HeaderParser()
    pieces = iter(sizes or [])
    while data:
        most = min(parser.wanted, next(pieces, 1 << 20))
        assert most > 0
        header = parser.feed(data[:most])
        data = data[most:]
        if header is not None:
            return header, data
    return None, b""


@pytest.mark.parametrize(
    ("line", "source", "destination"),
    [
        # The examples of the specification, 2.1: the longest of each kind.
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            ("255.255.255.255", 65535),
            ("255.255.255.255", 65535),
        ),
        (
            b"PROXY TCP6 " + b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " * 2 + b"65535 65535\r\n",
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 0, 0),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 0, 0),
        ),
        (
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            ("192.168.0.1", 56324),
            ("192.168.0.11", 443),
        ),
        (b"PROXY TCP6 :: ::1 0 1\r\n", ("::", 0, 0, 0), ("::1", 1, 0, 0)),
        # As HAProxy writes who came by IPv4 to a socket of both.
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 2001:DB8::1 7 8\r\n",
            (str(ipaddress.ip_address("::ffff:192.0.2.7")), 7, 0, 0),
            ("2001:db8::1", 8, 0, 0),
        ),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None, None),
    ],
)  # fmt: skip
def test_version_1(line, source, destination):
    for sizes in (None, [1] * 107):
        header, rest = parse(line + b"hello", sizes)
        assert header == Header(1, "PROXY", source, destination, len(line))
        assert rest == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello",
        b"hello, world! Who are you?",
        b"PROXY\r\n" + b"x" * 20,
        b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\nxxxxx",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
        b"PROXY TCP4 1.1.1.1  1.1.1.1 1 1\r\n",
        b"PROXY TCP4 1.1.1 1.1.1.1 1 1\r\nxxx",
        b"PROXY TCP4 ::1 ::1 1 1\r\nxxxxxxx",
        b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\nx",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rx\r\n",
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 \xd9\xa1\r\n",
        b"PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        b"PROXY TCP6 :::: ::1 1 1\r\n",
        b"PROXY TCP5 1.1",  # nobody waits for the rest
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UNKNOWN x\ny\r\n",
        b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
        b"PROXY TCP4 " + b"1" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),  # version 1 in the form of 2
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),  # command 2
        SIGNATURE + b"\x21\x41\x00\x0c" + bytes(12),  # family 4
        SIGNATURE + b"\x21\x13\x00\x0c" + bytes(12),  # protocol 3
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),  # too short for its addresses
        SIGNATURE + b"\x21\x21\x00\x23" + bytes(35),
        SIGNATURE + b"\x21\x11\x00\x0e" + bytes(12) + b"\x04\x00",  # half a TLV
        SIGNATURE + b"\x21\x11\x00\x0f" + bytes(12) + b"\x04\x00\x01",  # one that goes beyond
        SIGNATURE + b"\x21\x11\x00\x12" + bytes(12) + b"\x03\x00\x03abc",  # half a checksum
        SIGNATURE[:-1] + b"x" + bytes(20),
    ],
)
def test_what_is_no_header_is_told_in_one_line(data):
    for sizes in (None, [1] * 300):
        with pytest.raises(BadProxyHeader) as caught:
            parse(data, sizes)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


ports = st.integers(0, 65535)
v4 = st.ip_addresses(v=4).map(str)
v6 = st.ip_addresses(v=6).map(str)
ends = st.one_of(
    st.tuples(st.tuples(v4, ports), st.tuples(v4, ports)),
    st.tuples(
        st.tuples(v6, ports, st.just(0), st.just(0)), st.tuples(v6, ports, st.just(0), st.just(0))
    ),
)
paths = st.from_regex(r"@?[a-z0-9/][a-z0-9/@]{0,99}", fullmatch=True)
unix_ends = st.tuples(paths, paths)
tlvs = st.lists(
    st.tuples(st.sampled_from([1, 2, 4, 5, 0x20, 0x30, 0xE0]), st.binary(max_size=40)), max_size=4
)
cuts = st.lists(st.integers(1, 60), max_size=300)


@given(ends=ends, payload=st.binary(max_size=40), cuts=cuts)
def test_version_1_is_read_as_it_was_written_and_nothing_beyond_it(ends, payload, cuts):
    header, rest = parse(encode_v1(*ends) + payload, cuts)
    assert header is not None
    assert (header.source, header.destination) == ends
    assert rest == payload


@given(
    ends=st.one_of(ends, unix_ends, st.just((None, None))),
    tlvs=tlvs,
    checksum=st.booleans(),
    payload=st.binary(max_size=40),
    cuts=cuts,
)
def test_version_2_is_read_as_it_was_written_and_nothing_beyond_it(
    ends, tlvs, checksum, payload, cuts
):
    source, destination = ends
    data = encode_v2(source, destination, tlvs, checksum=checksum)
    header, rest = parse(data + payload, cuts)
    assert header is not None
    assert (header.source, header.destination, header.size) == (*ends, len(data))
    assert header.command == ("LOCAL" if ends[0] is None else "PROXY")
    if ends[0] is not None:
        assert [each for each in header.tlvs if each[0] != 3] == tlvs
    assert rest == payload


@given(ends=ends, place=st.integers(16, 27), change=st.integers(1, 255))
def test_a_wrong_checksum_is_found(ends, place, change):
    data = bytearray(encode_v2(*ends, checksum=True))
    data[place] ^= change
    with pytest.raises(BadProxyHeader, match="checksum"):
        parse(bytes(data))


def test_a_second_checksum_is_refused_before_it_is_computed():
    """They could be thousands, each over all of the header."""
    data = bytearray(encode_v2(("1.1.1.1", 1), ("1.1.1.1", 1), [(3, bytes(4))]))
    data[-4:] = crc32c(bytes(data)).to_bytes(4, "big")
    assert parse(bytes(data))[0] is not None
    data += bytes((3, 0, 4)) + bytes(4)
    data[14:16] = (len(data) - 16).to_bytes(2, "big")
    data[-11:-7] = bytes(4)
    data[-11:-7] = crc32c(bytes(data)).to_bytes(4, "big")
    with pytest.raises(BadProxyHeader, match="two checksums"):
        parse(bytes(data))


@given(length=st.integers(80, 120), cuts=cuts)
def test_a_line_has_107_bytes_at_most_however_it_comes(length, cuts):
    line = b"PROXY UNKNOWN ".ljust(length - 2, b"f") + b"\r\n"
    if length <= 107:
        assert parse(line, cuts)[0] == Header(1, "PROXY", None, None, length)
    else:
        with pytest.raises(BadProxyHeader):
            parse(line, cuts)


@pytest.mark.parametrize(
    ("family", "size"), [(0x00, 5), (0x01, 0), (0x02, 7), (0x12, 12), (0x22, 36), (0x32, 216)]
)
def test_datagrams_and_unspecified_addresses_leave_the_peer_as_it_is(family, size):
    """How long an unspecified address is, nobody knows: what follows it can't be looked at."""
    data = SIGNATURE + struct.pack("!BBH", 0x21, family, size) + b"\xff" * size
    assert parse(data + b"x") == (Header(2, "PROXY", None, None, len(data)), b"x")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"", "unix"),
        (b"\0abstract", "@abstract"),
        (b"/" * 108, "/" * 108),
        (b"/a@b", "/a@b"),
        (b"/\n\x1b[31m\xff", "/\\n\\x1b[31m\\xff"),
    ],
    ids=["none", "abstract", "longest", "with-at", "with-control-characters"],
)
def test_the_path_of_a_client_is_fit_for_a_log(path, shown):
    data = SIGNATURE + b"\x21\x31\x00\xd8" + path.ljust(108, b"\0") + bytes(108)
    header, _ = parse(data)
    assert header is not None
    assert (header.source, header.destination) == (shown, "unix")


def test_a_path_that_does_not_fit_is_not_written():
    with pytest.raises(ValueError, match="108 bytes"):
        encode_v2("/" + "x" * 108, "/x")


def test_what_a_health_check_says_else_is_ignored():
    header, rest = parse(SIGNATURE + b"\x20\xff\x00\x05hello" + b"payload")
    assert header == Header(2, "LOCAL", None, None, 21)
    assert rest == b"payload"


@given(st.binary(max_size=300), cuts)
def test_any_bytes_are_a_header_or_none_and_never_anything_else(data, cuts):
    try:
        parse(data, cuts)
    except BadProxyHeader:
        pass


@given(st.binary(max_size=80), st.integers(0, 0x21), st.integers(0, 255))
def test_any_bytes_behind_the_signature(body, command, family):
    data = SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body
    try:
        header, rest = parse(data + b"x")
    except BadProxyHeader:
        return
    assert header is not None
    assert rest == b"x"


def test_more_than_is_wanted_is_a_mistake_of_the_callers():
    with pytest.raises(ValueError, match="more than are wanted"):
        HeaderParser().feed(b"x" * 16)


def test_a_header_is_shorter_than_4_kib(monkeypatch):
    """Nobody keeps more of it, or computes a checksum of more; and that once."""
    summed: list[int] = []

    def counted(data: bytes) -> int:
        summed.append(len(data))
        return crc32c(data)

    for source, destination in ((("1.1.1.1", 1), ("2.2.2.2", 2)), (None, None)):

        def header_of(padding: int, source: Any = source, destination: Any = destination) -> bytes:
            return encode_v2(source, destination, [(0xE0, bytes(padding))], checksum=True)

        size = len(header_of(0))
        longest, longer = header_of(4095 - size), header_of(4096 - size)
        with monkeypatch.context() as patch:
            patch.setattr("anysock.net.proxy_protocol.crc32c", counted)
            for sizes in (None, [1] * 4095):
                header, rest = parse(longest + b"x", sizes)
                assert header is not None
                assert header.size == 4095
                assert rest == b"x"
            parser = HeaderParser()
            parser.feed(longer[:15])
            with pytest.raises(BadProxyHeader, match="header of 4096 bytes: the most is 4095"):
                parser.feed(longer[15:16])  # nobody waits for the rest
    assert summed == [4095, 4095], "what a proxy says of itself is ignored"


def test_the_end_of_the_stream_is_told():
    parser = HeaderParser()
    assert "before its first byte" in str(parser.end())
    parser.feed(b"PROXY")
    assert "in its PROXY header, after b'PROXY'" in str(parser.end())


def test_crc32c():
    """The check value that is given for this polynomial everywhere."""
    assert crc32c(b"123456789") == 0xE3069283
