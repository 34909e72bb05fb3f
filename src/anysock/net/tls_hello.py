"""What a ClientHello says, before OpenSSL has it: how long it is, before there is room for it; whom
it asks for, and which protocols it offers."""

from __future__ import annotations

from typing import NamedTuple

# The maximum length of a ClientHello, in bytes: BoringSSL (Chrome, Google's servers) allows no more
# for any message. A real one has 500 to 2000 bytes, a little more with a large session ticket.
# OpenSSL alone would allow 131,396, and allocate all of it after the first four bytes.
MAX_HELLO = 16_384

_HANDSHAKE = 0x16
_CHANGE_CIPHER_SPEC = 0x14
_CLIENT_HELLO = 1
# What the random of a ServerHello begins with that asks for a second ClientHello (RFC 8446, 4.1.3),
# and where that is in the first that a server sends.
_RETRY = bytes.fromhex("cf21ad74e59a6111be")
_AT = 11

_HEAD = 4  # a message's: its type, and its length in three bytes (RFC 8446, 4)


# The extensions that are read here (RFC 6066, 3; RFC 7301, 3.1); and how many are looked at: real
# clients send about twenty.
_SERVER_NAME = 0
_ALPN = 16
_MOST_EXTENSIONS = 100


class Asked(NamedTuple):
    """What a client asks for in its ClientHello."""

    #: The host; None: it names none, or no host that could be one.
    server_name: str | None = None
    #: The protocols that it offers.
    alpn: tuple[bytes, ...] = ()


def read_hello(body: bytes) -> Asked:
    """What a ClientHello asks for (RFC 8446, 4.1.2), without the head of the message. Of one that
    is broken, what can be read: OpenSSL will refuse it."""
    name: str | None = None
    alpn: tuple[bytes, ...] = ()
    rest = body[34:]  # behind version and random
    for size in (1, 2, 1):  # session id, ciphers, compression
        _, rest = _vector(rest, size)
    rest, _ = _vector(rest, 2)
    for _ in range(_MOST_EXTENSIONS):
        if len(rest) < 4:
            break
        kind = int.from_bytes(rest[:2], "big")
        data, rest = _vector(rest[2:], 2)
        if kind == _SERVER_NAME:
            name = _host(data)
        elif kind == _ALPN:
            names, _ = _vector(data, 2)
            offered = []
            while names:
                each, names = _vector(names, 1)
                offered.append(each)
            alpn = tuple(offered)
    return Asked(name, alpn)


def _host(data: bytes) -> str | None:
    """The name in the extension: a list of names, of which only host_name (0) was ever defined."""
    names, _ = _vector(data, 2)
    host, _ = _vector(names[1:], 2)
    if names[:1] != b"\0" or not host or any(not 0x21 <= byte < 0x7F for byte in host):
        return None
    return host.decode("ascii")


def _vector(data: bytes, size: int) -> tuple[bytes, bytes]:
    """What `data` begins with, behind its length in `size` bytes; and what follows it."""
    end = size + int.from_bytes(data[:size], "big")
    return data[size:end], data[end:]


class HelloWatch:
    """Follows the messages in the records that are not encrypted."""

    def __init__(self) -> None:
        self._kind = 0
        self._head = b""
        self._to_come = 0  # of the message that has begun
        # The first ClientHello, as far as it has come.
        self._body: bytearray | None = None
        #: What it says, once all of it has come.
        self.asked: Asked | None = None
        #: Whether all that follows is encrypted.
        self.over = False

    def begin(self, kind: int, answered: bytes) -> None:
        """A record begins; `answered` is what the server's answer began with, as far as there is
        one. After a change of ciphers all is encrypted, but where a second ClientHello was asked
        for: then that is no change (RFC 8446, D.4)."""
        self._kind = kind
        if kind == _CHANGE_CIPHER_SPEC:
            self.over = bool(answered) and answered[_AT : _AT + len(_RETRY)] != _RETRY
        else:
            self.over = kind != _HANDSHAKE

    def follow(self, data: bytes) -> int | None:
        """`data` of that record has come. How long a ClientHello is that is too long; None: none
        is."""
        if self._kind != _HANDSHAKE:
            return None
        while data:
            if self._to_come:
                passed = min(self._to_come, len(data))
                self._to_come -= passed
                if self._body is not None:
                    self._body += data[:passed]
                    if not self._to_come:
                        self.asked, self._body = read_hello(bytes(self._body)), None
                data = data[passed:]
                continue
            missing = _HEAD - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) == _HEAD:
                length = int.from_bytes(self._head[1:], "big")
                if self._head[0] == _CLIENT_HELLO and length > MAX_HELLO:
                    return length
                if self._head[0] == _CLIENT_HELLO and self.asked is None:
                    self._body = bytearray()
                self._head, self._to_come = b"", length
        return None
