"""The PROXY protocol, versions 1 and 2: what a proxy says of the client that it speaks for.

After HAProxy's ``doc/proxy-protocol.txt``. Bytes in, header out, without a socket in sight. Nothing
is guessed: the header is there or the connection is no good (a receiver that takes what looks like
a header, and passes what does not, lets anybody claim to be anyone).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

from anysock.engines.base import SockAddr, Stream

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD = struct.Struct("!12sBBH")
_V1_BEGINNING = b"PROXY "

# The shortest of all headers: so much may be read before anything is known.
_SHORTEST = len(b"PROXY UNKNOWN\r\n")

# The longest line of version 1, with its CRLF (section 2.1).
_LONGEST_LINE = 107

# A TLV (type, length, value) of version 2 with a checksum of the header: CRC-32C (section 2.2.3).
_TLV_CRC32C = 0x03


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
    #: The client that it speaks for; None: for itself, as in a health check, or it does not know.
    source: SockAddr | None
    #: Where that client had connected to.
    destination: SockAddr | None
    #: How many bytes the header had.
    size: int
    #: Of version 2: what else it said, by type.
    tlvs: list[tuple[int, bytes]] = field(default_factory=list)


class HeaderParser:
    """Takes a header in whatever pieces it comes, and not a byte of what follows.

    Feed it at most `wanted` bytes at a time: so many of what comes next belong to the header in any
    case. So whoever reads for it never reads too far.
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
            return _V2_HEAD.size + int.from_bytes(self._data[14:16], "big") - have
        return _least_to_come(self._data)

    def feed(self, data: bytes) -> Header | None:
        """Take what has come; returns the header when it is whole.

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
        elif _V1_BEGINNING.startswith(data[:6]):
            if data.endswith(b"\r\n"):
                return _v1(data)
            # A CR is followed by LF, and nothing else ends the line.
            if b"\r" in data[:-1] or b"\n" in data or len(data) >= _LONGEST_LINE:
                raise BadProxyHeader(f"no PROXY line: {_shown(data)}")
        else:
            raise BadProxyHeader(f"no PROXY header: it begins with {_shown(data)}")
        return None

    def end(self) -> BadProxyHeader:
        """The stream has ended before the header was whole."""
        if not self._data:
            return BadProxyHeader("it ended before its first byte", begun=False)
        return BadProxyHeader(f"it ended in its PROXY header, after {_shown(self._data)}")


async def read_header(stream: Stream) -> Header:
    """Receive a header from the beginning of `stream`, and nothing beyond it.

    Raises `BadProxyHeader`, and what the stream raises.
    """
    parser = HeaderParser()
    while True:
        data = await stream.recv(parser.wanted)
        if not data:
            raise parser.end()
        header = parser.feed(data)
        if header is not None:
            return header


def _shown(data: bytes) -> str:
    return repr(data[:24]) + ("..." if len(data) > 24 else "")


# -- version 1: a line of text -------------------------------------------------------------------


def _least_to_come(line: bytes) -> int:
    """How many bytes, at least, are missing at the end of a line of version 1 that has begun."""
    ending = 1 if line.endswith(b"\r") else 2
    words = line.split(b" ")
    if len(words) < 2 or words[1].startswith(b"U"):
        # What follows UNKNOWN is to be ignored: the line may end at any moment.
        return ending
    # PROXY TCP4 source destination port port: each word that is missing has a blank and a byte.
    missing = max(6 - len(words), 0)
    return ending + 2 * missing + (not words[-1])


def _v1(line: bytes) -> Header:
    """A line of version 1 (section 2.1)."""
    text = line[:-2].decode("ascii", "replace")
    words = text.split(" ")
    if words[1] == "UNKNOWN":
        return Header(1, None, None, len(line))
    versions = {"TCP4": 4, "TCP6": 6}
    if len(words) != 6 or words[1] not in versions:
        raise BadProxyHeader(f"no PROXY line: {_shown(line)}")
    try:
        hosts = [ipaddress.ip_address(word) for word in words[2:4]]
    except ValueError:
        raise BadProxyHeader(f"no address in the PROXY line {_shown(line)}") from None
    if any(host.version != versions[words[1]] for host in hosts):
        raise BadProxyHeader(f"an address of the other family in the PROXY line {_shown(line)}")
    ports = [_port(word) for word in words[4:6]]
    if None in ports:
        raise BadProxyHeader(f"no port in the PROXY line {_shown(line)}")
    source, destination = (
        (str(host), port) + ((0, 0) if host.version == 6 else ())
        for host, port in zip(hosts, ports, strict=True)
    )
    return Header(1, source, destination, len(line))


def _port(word: str) -> int | None:
    """A number from 0 to 65535, written as the specification wants it: no sign, no zero before."""
    if not (word.isascii() and word.isdigit()) or len(word) > 5 or word != str(int(word)):
        return None
    return int(word) if int(word) <= 65535 else None


# -- version 2: binary ---------------------------------------------------------------------------


def _check_v2_head(data: bytes) -> None:
    _, version_and_command, family, length = _V2_HEAD.unpack_from(data)
    if version_and_command >> 4 != 2:
        raise BadProxyHeader(f"PROXY version {version_and_command >> 4} is unknown")
    if version_and_command & 0xF > 1:
        raise BadProxyHeader(f"PROXY command {version_and_command & 0xF} is unknown")
    if version_and_command & 0xF == 0:
        return  # LOCAL: what else it says is to be ignored
    if family >> 4 > 3 or family & 0xF > 2:
        raise BadProxyHeader(f"PROXY family and protocol {family:#04x} are unknown")
    if length < _address_size(family):
        raise BadProxyHeader("a PROXY header too short for its addresses")


def _address_size(family: int) -> int:
    return {1: 12, 2: 36, 3: 216}.get(family >> 4, 0)


def _v2(data: bytes) -> Header:
    """A header of version 2, whole (section 2.2)."""
    _, version_and_command, family, _ = _V2_HEAD.unpack_from(data)
    if version_and_command & 0xF == 0:
        return Header(2, None, None, len(data))
    body = data[_V2_HEAD.size :]
    size = _address_size(family)
    tlvs = _tlvs(body[size:], data, _V2_HEAD.size + size)
    # Only what has come over a stream has an address here; the rest is "unspecified", and the
    # connection's own is to be used.
    ends = _addresses(family >> 4, body) if family & 0xF == 1 else (None, None)
    return Header(2, *ends, len(data), tlvs)


def _addresses(family: int, body: bytes) -> tuple[SockAddr | None, SockAddr | None]:
    if family == 1:
        source, destination, *ports = struct.unpack_from("!4s4sHH", body)
        hosts = [str(ipaddress.IPv4Address(each)) for each in (source, destination)]
        return (hosts[0], ports[0]), (hosts[1], ports[1])
    if family == 2:
        source, destination, *ports = struct.unpack_from("!16s16sHH", body)
        hosts = [str(ipaddress.IPv6Address(each)) for each in (source, destination)]
        return (hosts[0], ports[0], 0, 0), (hosts[1], ports[1], 0, 0)
    if family == 3:
        paths = [_path(body[:108]), _path(body[108:216])]
        return paths[0], paths[1]
    return None, None


def _path(data: bytes) -> str:
    """A Unix socket's; an abstract one, which begins with a NUL, is shown with ``@``."""
    abstract, data = data[:1] == b"\0", data.lstrip(b"\0")
    path = data.partition(b"\0")[0].decode("utf-8", "replace")
    return f"@{path}" if abstract and path else path or "unix"


def _tlvs(data: bytes, header: bytes, start: int) -> list[tuple[int, bytes]]:
    """What follows the addresses. `header` is the whole, in which that begins at `start`."""
    found = []
    place = 0
    while place < len(data):
        if len(data) - place < 3:
            raise BadProxyHeader("half a TLV at the end of the PROXY header")
        kind, length = data[place], int.from_bytes(data[place + 1 : place + 3], "big")
        value = data[place + 3 : place + 3 + length]
        if len(value) < length:
            raise BadProxyHeader(f"TLV {kind:#04x} goes beyond the end of the PROXY header")
        if kind == _TLV_CRC32C:
            at = start + place + 3
            if length != 4 or crc32c(header[:at] + bytes(4) + header[at + 4 :]) != int.from_bytes(
                value, "big"
            ):
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


# -- the other way, for those who speak it to us -------------------------------------------------


def encode_v1(source: SockAddr, destination: SockAddr) -> bytes:
    """The header of a TCP connection in version 1."""
    kind = "TCP6" if ":" in source[0] else "TCP4"
    return f"PROXY {kind} {source[0]} {destination[0]} {source[1]} {destination[1]}\r\n".encode()


def encode_v2(
    source: SockAddr | None,
    destination: SockAddr | None,
    tlvs: list[tuple[int, bytes]] | None = None,
    *,
    checksum: bool = False,
) -> bytes:
    """The header of a stream in version 2; without a source, of a health check (LOCAL)."""
    family, body = 0, b""
    if source is not None and destination is not None:
        ends = (source, destination)
        if isinstance(source, str):
            family = 0x31
            body = b"".join(
                str(end).replace("@", "\0", 1).encode().ljust(108, b"\0") for end in ends
            )
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
