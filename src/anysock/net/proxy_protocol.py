"""The PROXY protocol, versions 1 and 2: what a proxy says of the client that it speaks for.

After HAProxy's ``doc/proxy-protocol.txt``. Bytes in, header out, without a socket in sight. Nothing
is guessed: the header is there or the connection is no good (a receiver that takes what looks like
a header, and passes what does not, lets anybody claim to be anyone).
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass, field

from anysock.engines.base import SockAddr

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")

# What a line of version 1 may begin with, and how many characters its words have at least:
# addresses like 0.0.0.0 and ::, and ports.
_V1_WORDS = {"TCP4": (7, 7, 1, 1), "TCP6": (2, 2, 1, 1)}
_V1_BEGINNINGS = (b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r")

# The length of the shortest header: this much may be read before anything is known.
_SHORTEST = len(b"PROXY UNKNOWN\r\n")

# The longest line of version 1, with its CRLF (section 2.1).
_LONGEST_LINE = 107

# A header of version 2 may claim a length of up to 65 kB, whose checksum would take 6 ms in Python.
# Real headers are much shorter (HAProxy's, with everything that it can tell, are under 4 KiB). So
# headers from the first length on are refused; from the second on, checking one is costly work.
TOO_LONG = 4096
_LONG = 512

# A TLV (type, length, value) of version 2 with a checksum of the header: CRC-32C (section 2.2.3).
_TLV_CRC32C = 0x03


# How many characters of what is wrong are told.
_MAX_SHOWN = 32


class BadProxyHeader(ConnectionError):
    """What a connection begins with is no header of the PROXY protocol.

    `begun` is whether it began with anything at all: a health check that only connects does not.
    """

    def __init__(self, text: str, *, begun: bool = True) -> None:
        super().__init__(text)
        self.begun = begun


@dataclass(frozen=True)
class Header:
    """What a proxy has said."""

    version: int
    #: ``PROXY``: it speaks for a client. ``LOCAL``: for itself, as in a health check; version 2
    #: alone can say so.
    command: str
    #: The client; None: it speaks for itself, or can't tell the address.
    source: SockAddr | None
    #: Where that client had connected to.
    destination: SockAddr | None
    #: How many bytes the header had.
    size: int
    #: Of version 2: what else it said, by type.
    tlvs: list[tuple[int, bytes]] = field(default_factory=list)


class HeaderParser:
    """Takes a header in whatever pieces it comes, and not a byte of what follows.

    Feed it at most `wanted` bytes at a time: the next `wanted` bytes belong to the header in any
    case, so that its reader never reads too far.
    """

    def __init__(self) -> None:
        self._data = b""

    @property
    def wanted(self) -> int:
        """How many bytes may be fed now."""
        have = len(self._data)
        if have < _SHORTEST:
            return _SHORTEST - have
        if self._data.startswith(_V2_SIGNATURE):
            if have < _V2_HEAD.size:
                return _V2_HEAD.size - have
            return self._v2_size() - have
        return _least_to_come(self._data)

    @property
    def long(self) -> bool:
        """Whether the header is long enough to make checking it costly."""
        return len(self._data) >= _V2_HEAD.size and self._v2_size() > _LONG

    def feed(self, data: bytes) -> Header | None:
        """Take the next bytes; return the header once it is complete.

        Raises `BadProxyHeader` as soon as it can be none.
        """
        if len(data) > self.wanted:
            raise ValueError(f"{len(data)} bytes are more than are wanted, {self.wanted}")
        self._data = data = self._data + data
        if _V2_SIGNATURE.startswith(data[:12]):
            if len(data) >= _V2_HEAD.size:
                _check_v2_head(data)
                if not self.wanted:
                    return _v2(data)
        elif any(each.startswith(data[: len(each)]) for each in _V1_BEGINNINGS):
            whole = data.endswith(b"\r\n")
            line = data[:-2] if whole else data[:-1] if data.endswith(b"\r") else data
            # A CR is followed by LF, and nothing else ends the line.
            if b"\r" in line or b"\n" in line or len(line) > _LONGEST_LINE - 2:
                raise BadProxyHeader(f"no PROXY line: {_shown(data)}")
            if whole:
                return _v1(data)
        else:
            raise BadProxyHeader(f"no PROXY header: it begins with {_shown(data)}")
        return None

    def _v2_size(self) -> int:
        return _V2_HEAD.size + int.from_bytes(self._data[14:16], "big")

    def end(self) -> BadProxyHeader:
        """The stream has ended before the header was whole."""
        if not self._data:
            return BadProxyHeader("it ended before its first byte", begun=False)
        return BadProxyHeader(f"it ended in its PROXY header, after {_shown(self._data)}")


def _shown(data: bytes | str) -> str:
    return repr(data[:_MAX_SHOWN]) + ("..." if len(data) > _MAX_SHOWN else "")


# -- version 1: a line of text -------------------------------------------------------------------


def _least_to_come(line: bytes) -> int:
    """How many bytes, at least, are missing at the end of a line of version 1 that has begun."""
    ending = 1 if line.endswith(b"\r") else 2
    _, protocol, *words = line.removesuffix(b"\r").decode("ascii", "replace").split(" ")
    if protocol not in _V1_WORDS or ending == 1:
        # What follows UNKNOWN is to be ignored: the line may end at any moment.
        return ending
    for number, least in enumerate(_V1_WORDS[protocol]):
        if number < len(words):
            ending += max(least - len(words[number]), 0)
        else:
            ending += 1 + least  # with the blank before it
    return ending


def _v1(line: bytes) -> Header:
    """A line of version 1 (section 2.1)."""
    _, protocol, *words = line[:-2].decode("ascii", "replace").split(" ")
    if protocol == "UNKNOWN":
        return Header(1, "PROXY", None, None, len(line))
    if len(words) != 4:
        raise BadProxyHeader(f"no PROXY line: {_shown(line)}")
    source = _v1_end(protocol, words[0], words[2])
    destination = _v1_end(protocol, words[1], words[3])
    return Header(1, "PROXY", source, destination, len(line))


def _v1_end(protocol: str, host: str, port: str) -> SockAddr:
    end = f"{host} {port}"
    try:
        if protocol == "TCP4":
            return str(ipaddress.IPv4Address(host)), _port(port)
        address = ipaddress.IPv6Address(host)
        if address.scope_id is None:  # RFC 4007 has scopes; the PROXY protocol has not
            return str(address), _port(port), 0, 0
    except ValueError:
        pass
    raise BadProxyHeader(f"no {protocol} address and port in the PROXY line: {_shown(end)}")


def _port(word: str) -> int:
    """A number from 0 to 65535, written as the specification wants it: no sign, no zero before."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,4}", word) or int(word) > 65535:
        raise ValueError("no port")
    return int(word)


# -- version 2: binary ---------------------------------------------------------------------------


def _check_v2_head(data: bytes) -> None:
    _, version_and_command, family, length = _V2_HEAD.unpack_from(data)
    if version_and_command >> 4 != 2:
        raise BadProxyHeader(f"PROXY version {version_and_command >> 4} is unknown")
    if version_and_command & 0xF > 1:
        raise BadProxyHeader(f"PROXY command {version_and_command & 0xF} is unknown")
    size = _V2_HEAD.size + length
    if size >= TOO_LONG:
        raise BadProxyHeader(f"a PROXY header of {size} bytes: the most is {TOO_LONG - 1}")
    if version_and_command & 0xF == 0:
        return  # LOCAL: what else it says is to be ignored
    if family >> 4 > 3 or family & 0xF > 2:
        raise BadProxyHeader(f"PROXY family and protocol {family:#04x} are unknown")
    if length < _address_size(family):
        raise BadProxyHeader("a PROXY header too short for its addresses")


def _address_size(family: int) -> int:
    return {1: 12, 2: 36, 3: 216}.get(family >> 4, 0)


def _v2(data: bytes) -> Header:
    """Parse a complete header of version 2 (section 2.2)."""
    _, version_and_command, family, _ = _V2_HEAD.unpack_from(data)
    if version_and_command & 0xF == 0:
        return Header(2, "LOCAL", None, None, len(data))
    if family >> 4 == 0:
        # "The receiver should ignore address information", whose length is not specified.
        return Header(2, "PROXY", None, None, len(data))
    body = data[_V2_HEAD.size :]
    size = _address_size(family)
    tlvs = _tlvs(body[size:], data, _V2_HEAD.size + size)
    # Only addresses of streams are understood here. For the others, a receiver falls back to
    # "unspecified": the addresses of the connection itself.
    source, destination = _addresses(family >> 4, body) if family & 0xF == 1 else (None, None)
    return Header(2, "PROXY", source, destination, len(data), tlvs)


def _addresses(family: int, body: bytes) -> tuple[SockAddr, SockAddr]:
    if family == 1:
        source, destination, *ports = struct.unpack_from("!4s4sHH", body)
        hosts = [str(ipaddress.IPv4Address(each)) for each in (source, destination)]
        return (hosts[0], ports[0]), (hosts[1], ports[1])
    if family == 2:
        source, destination, *ports = struct.unpack_from("!16s16sHH", body)
        hosts = [str(ipaddress.IPv6Address(each)) for each in (source, destination)]
        return (hosts[0], ports[0], 0, 0), (hosts[1], ports[1], 0, 0)
    return _path(body[:108]), _path(body[108:216])


def _path(data: bytes) -> str:
    """A Unix socket's; an abstract one, which begins with a NUL, is shown with ``@``. A client's
    has none as a rule."""
    path = data[1:] if data[:1] == b"\0" else data
    text = path.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    if not text:
        return "unix"
    # What is no character of a path must not become one of a log line.
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return text if path is data else f"@{text}"


def _tlvs(data: bytes, header: bytes, start: int) -> list[tuple[int, bytes]]:
    """Parse what follows the addresses: `data`, which is at `start` in the complete `header`."""
    found: list[tuple[int, bytes]] = []
    place = 0
    while place < len(data):
        if len(data) - place < 3:
            raise BadProxyHeader("half a TLV at the end of the PROXY header")
        kind, length = data[place], int.from_bytes(data[place + 1 : place + 3], "big")
        value = data[place + 3 : place + 3 + length]
        if len(value) < length:
            raise BadProxyHeader(f"TLV {kind:#04x} goes beyond the end of the PROXY header")
        if kind == _TLV_CRC32C:
            # Thousands of them, each over all of the header, would keep us busy for a minute.
            if any(each == kind for each, _ in found):
                raise BadProxyHeader("a PROXY header with two checksums")
            at = start + place + 3
            whole = header[:at] + bytes(4) + header[at + 4 :]
            if length != 4 or crc32c(whole) != int.from_bytes(value, "big"):
                raise BadProxyHeader("the checksum of the PROXY header is wrong")
        found.append((kind, value))
        place += 3 + length
    return found


def _crc32c_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901
        table.append(byte)
    return table


_CRC32C = _crc32c_table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 4960, appendix B: another polynomial than that of `zlib.crc32`."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ _CRC32C[(checksum ^ byte) & 0xFF]
    return checksum ^ 0xFFFFFFFF


# -- the other way: headers to send --- -------------------------------------------------


def encode(version: int, source: SockAddr, destination: SockAddr) -> bytes:
    """The header of a connection in version 1 or 2. Of one over a Unix socket, version 1 says that
    it does not know."""
    if version == 2:
        return encode_v2(source, destination)
    if isinstance(source, str):
        return b"PROXY UNKNOWN\r\n"
    return encode_v1(source, destination)


def encode_v1(source: SockAddr, destination: SockAddr) -> bytes:
    """The header of a TCP connection in version 1."""
    kind = "TCP6" if ":" in source[0] else "TCP4"
    # RFC 4007 has scopes (fe80::1%eth0); the PROXY protocol has not.
    hosts = [str(end[0]).partition("%")[0] for end in (source, destination)]
    return f"PROXY {kind} {' '.join(hosts)} {source[1]} {destination[1]}\r\n".encode()


def encode_v2(
    source: SockAddr | None,
    destination: SockAddr | None,
    tlvs: list[tuple[int, bytes]] | None = None,
    *,
    checksum: bool = False,
) -> bytes:
    """The header of a stream in version 2; without a source, of a health check (LOCAL).

    Raises ValueError for the path of a Unix socket that is too long.
    """
    family, body = 0, b""
    if source is not None and destination is not None:
        ends = (source, destination)
        if isinstance(source, str):
            family, body = 0x31, _packed_path(source) + _packed_path(str(destination))
        else:
            hosts = [ipaddress.ip_address(end[0]) for end in ends]
            family = 0x21 if hosts[0].version == 6 else 0x11
            body = b"".join(host.packed for host in hosts)
            body += struct.pack("!HH", *(int(end[1]) for end in ends))
    for kind, value in tlvs or ():
        body += struct.pack("!BH", kind, len(value)) + value
    if checksum:
        body += struct.pack("!BHI", _TLV_CRC32C, 4, 0)
    command = 0x20 if source is None else 0x21
    header = _V2_HEAD.pack(_V2_SIGNATURE, command, family, len(body)) + body
    return header[:-4] + struct.pack("!I", crc32c(header)) if checksum else header


def _packed_path(path: str) -> bytes:
    data = path.encode()
    if data.startswith(b"@"):
        data = b"\0" + data[1:]
    if len(data) > 108:
        raise ValueError(f"a path of more than 108 bytes: {path!r}")
    return data.ljust(108, b"\0")
