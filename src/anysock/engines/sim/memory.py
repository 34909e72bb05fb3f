"""What the kernel takes for data that waits in a socket, which is more than the data: it is this
that fills a buffer (socket(7))."""

from __future__ import annotations

from typing import Final

# The buffers of all sockets but TCP's (socket(7), wmem_default).
BUFFER: Final = 212_992

#: The most that one piece holds.
LARGEST: Final = 36_544

# Of one piece: what is beside its data in its first page, what describes it, and the smallest
# memory for it.
_BESIDE: Final = 320
_HEADER: Final = 256
_SMALLEST: Final = 512
_PAGE: Final = 4096
_IN_PAGE: Final = _PAGE - _BESIDE


def charge(size: int) -> int:
    """The memory that the kernel takes for a piece of `size` bytes."""
    paged = min(size, -(-(size - _IN_PAGE) // _PAGE) * _PAGE) if size > _IN_PAGE else 0
    head = size - paged + _BESIDE
    room = _SMALLEST
    while room < head:
        room *= 2
    return _HEADER + room + -(-paged // _PAGE) * _PAGE
