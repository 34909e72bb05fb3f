"""What a ClientHello says, before OpenSSL has it: how long it is, before there is room for it; whom
it asks for, and which protocols it offers."""

from __future__ import annotations

import re
from collections.abc import Iterator
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


_HOST = re.compile(rb"[!-~]+")


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
    try:
        at = 34  # behind version and random
        at += 1 + body[at]  # session id
        at += 2 + (body[at] << 8 | body[at + 1])  # ciphers
        at += 1 + body[at]  # compression
        at += 2  # the length of all extensions, which end with the message
        for _ in range(_MOST_EXTENSIONS):
            kind = body[at] << 8 | body[at + 1]
            end = at + 4 + (body[at + 2] << 8 | body[at + 3])
            if kind == _SERVER_NAME:
                name = _host(body[at + 4 : end])
            elif kind == _ALPN:
                alpn = tuple(_protocols(body[at + 6 : end]))
            at = end
    except IndexError:
        pass  # it is over
    return Asked(name, alpn)


def _protocols(names: bytes) -> Iterator[bytes]:
    while names:
        yield names[1 : 1 + names[0]]
        names = names[1 + names[0] :]


def _host(data: bytes) -> str | None:
    """The name in the extension: a list of names, of which only host_name (0) was ever defined."""
    host = data[5 : 5 + int.from_bytes(data[3:5], "big")]
    return host.decode() if data[2:3] == b"\0" and _HOST.fullmatch(host) else None


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
