"""How long a ClientHello says that it is: seen before OpenSSL makes room for it."""

from __future__ import annotations

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


class HelloWatch:
    """Follows the messages in the records that are not encrypted."""

    def __init__(self) -> None:
        self._kind = 0
        self._head = b""
        self._to_come = 0  # of the message that has begun
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
                data = data[passed:]
                continue
            missing = _HEAD - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) == _HEAD:
                length = int.from_bytes(self._head[1:], "big")
                if self._head[0] == _CLIENT_HELLO and length > MAX_HELLO:
                    return length
                self._head, self._to_come = b"", length
        return None
