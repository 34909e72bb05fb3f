"""Frames: messages with their length before them. Bytes in, bytes out.

The length is a number of 1, 2, 4 or 8 bytes, or a varint: groups of 7 bits, the lowest first, each
but the last with its highest bit set, as protocol buffers, MQTT and LEB128 have it.
"""

from __future__ import annotations

import functools
from typing import Literal, TypeAlias

from anysock.errors import BadFrame, FrameTooLong, UsageError, WrongType

#: What is written before a frame: a number of so many bytes, or a varint.
Prefix: TypeAlias = Literal[1, 2, 4, 8, "varint"]

#: The order of the bytes of that number.
ByteOrder: TypeAlias = Literal["big", "little"]

#: The default limit of the length of a frame, in bytes.
MAX_FRAME = 1 << 20

# A varint of 64 bits has at most so many bytes.
_MAX_VARINT = 10


class Framing:
    """How frames are written: `prefix`, `byteorder`, and the limit of their length in bytes.

    To be made by `framing`, which checks them.
    """

    __slots__ = ("byteorder", "largest", "max_bytes", "prefix")

    def __init__(self, prefix: Prefix, byteorder: ByteOrder, max_bytes: int) -> None:
        #: The size of the number, in bytes; 0: it is a varint.
        self.prefix = 0 if prefix == "varint" else prefix
        self.byteorder = byteorder
        self.max_bytes = max_bytes
        #: The largest length that can be written.
        self.largest = (1 << (64 if prefix == "varint" else 8 * prefix)) - 1

    def head(self, data: bytes | bytearray, start: int) -> tuple[int, int] | None:
        """Where the frame begins whose prefix is at `start`, and where it ends. None: the prefix
        has not all come yet.

        Raises `FrameTooLong`, and `BadFrame` for what is no varint.
        """
        size = self.prefix
        if size:
            begin = start + size
            if begin > len(data):
                return None
            length = int.from_bytes(data[start:begin], self.byteorder)
        else:
            length = shift = 0
            begin = start
            while True:
                if begin == len(data):
                    return None
                byte = data[begin]
                begin += 1
                length |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                # What is too long already need not come to its end.
                if begin - start == _MAX_VARINT or length > self.max_bytes:
                    break
            if length <= self.max_bytes and byte >= 0x80:
                raise BadFrame(
                    f"the length of a frame is a varint of more than {_MAX_VARINT} bytes"
                )
        if length > self.max_bytes:
            raise FrameTooLong(self.max_bytes, length)
        return begin, begin + length

    def prefixed(self, size: int) -> bytes:
        """The prefix of a frame of `size` bytes. Raises `UsageError` if that can't be written."""
        if size > self.largest:
            raise UsageError(
                f"a frame of {size} bytes: a prefix of {self.prefix or _MAX_VARINT} bytes can say "
                f"at most {self.largest}"
            )
        if self.prefix:
            return size.to_bytes(self.prefix, self.byteorder)
        digits = bytearray()
        while size > 0x7F:
            digits.append(size & 0x7F | 0x80)
            size >>= 7
        digits.append(size)
        return bytes(digits)


@functools.lru_cache(maxsize=64, typed=True)
def framing(prefix: Prefix, byteorder: ByteOrder, max_bytes: int) -> Framing:
    """The framing that was asked for. Raises `UsageError` when there is no such."""
    if prefix not in (1, 2, 4, 8, "varint") or isinstance(prefix, bool):
        raise UsageError(
            f'the prefix of a frame is 1, 2, 4 or 8 bytes, or "varint", not {prefix!r}'
        )
    if byteorder not in ("big", "little"):
        raise UsageError(f'the order of bytes is "big" or "little", not {byteorder!r}')
    if not isinstance(max_bytes, int):
        raise WrongType(f"the limit of a frame is a whole number of bytes, not {max_bytes!r}")
    if max_bytes < 0:
        raise UsageError(f"a frame has 0 bytes or more, not {max_bytes}")
    return Framing(prefix, byteorder, max_bytes)
