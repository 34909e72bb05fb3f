"""Lines out of chunks, without a socket in sight: bytes in, lines out."""

from __future__ import annotations

from anysock.errors import LineTooLong

#: The default limit of the length of a line, in bytes.
MAX_LINE = 65536

# Once this many bytes were taken, and they are more than half of the buffer, the rest is moved to
# its beginning. CPython's bytearray can drop its head without moving the rest, but does not promise
# to; and a move at each line would be quadratic where one large chunk holds many small lines.
_COMPACT = 65536


class LineBuffer:
    """Collects what comes, in whatever pieces, and gives it out by the line or by the byte.

    Every byte is looked at once, whatever the pieces: a search goes on where the last one ended.
    """

    __slots__ = ("_data", "_searched", "_taken")

    def __init__(self) -> None:
        self._data = bytearray()
        self._taken = 0
        self._searched = 0  # there is no LF before this

    def __len__(self) -> int:
        """How many bytes wait to be taken."""
        return len(self._data) - self._taken

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self._data += data

    def next_line(self, max_bytes: int | None = None) -> bytes | None:
        """Take the next line, as it came, with the LF or CRLF that ends it.

        None means that its end has not come yet. Raises `LineTooLong` as soon as it is certain
        that the line, its ending not counted, is longer than `max_bytes`; then nothing is taken.
        """
        data, start = self._data, self._taken
        end = data.find(b"\n", max(self._searched, start))
        if end < 0:
            self._searched = len(data)
            length = len(data) - start
            # A CR at the end may be half of the line's ending.
            if max_bytes is not None and length - data.endswith(b"\r") > max_bytes:
                raise LineTooLong(max_bytes)
            return None
        self._searched = end  # for another try after LineTooLong
        length = end - start
        if length and data[end - 1] == 0x0D:
            length -= 1
        if max_bytes is not None and length > max_bytes:
            raise LineTooLong(max_bytes)
        return self.take(end + 1 - start)

    def take(self, max_bytes: int) -> bytes:
        """Take at most `max_bytes` bytes, from the front. Raises ValueError if that is negative."""
        if max_bytes < 0:
            raise ValueError(f"can't take {max_bytes} bytes: ask for 0 or more")
        end = min(self._taken + max_bytes, len(self._data))
        with memoryview(self._data) as view:
            taken = bytes(view[self._taken : end])
        self._taken = end
        if end == len(self._data):
            self._data.clear()
            self._taken = self._searched = 0
        elif end > _COMPACT and end * 2 > len(self._data):
            del self._data[:end]
            self._taken = 0
            self._searched = max(self._searched - end, 0)
        return taken

    def take_rest(self) -> bytes:
        """Take all that is there."""
        return self.take(len(self))
