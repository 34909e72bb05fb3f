"""Lines, frames and counted bytes out of chunks, without a socket in sight: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Sequence

from anysock.errors import LineTooLong, MessageTooLong
from anysock.net.frames import Framing

#: The default limit of the length of a line, in bytes.
MAX_LINE = 65536

# From this many bytes on, a bytearray whose greater part was taken is moved to its beginning.
# CPython's bytearray can drop its head without moving the rest, but does not promise to.
_COMPACT = 65536


class ReceiveBuffer:
    """Collects what comes, in whatever pieces, and gives it out by the line, by the frame or by the
    byte.

    Every byte is looked at once for each separator, whatever the pieces: a search goes on where the
    last one ended. And it is copied a bounded number of times. Mostly, a chunk holds whole messages
    only: then it stays the bytes that it came as, of which a slice is cheap.
    """

    __slots__ = ("_searched", "_sought", "_taken", "data")

    def __init__(self) -> None:
        #: What waits to be taken is in here: nothing is if it is empty, and that is quicker to ask
        #: than the length. A bytearray while there is more to come of something that is longer than
        #: a chunk.
        self.data: bytes | bytearray = b""
        self._taken = 0
        # There is no `_sought` that ends before this.
        self._searched = 0
        self._sought: bytes | Sequence[bytes] = b"\n"

    def __len__(self) -> int:
        """How many bytes wait to be taken."""
        return len(self.data) - self._taken

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        taken = self._taken
        left = len(self.data) - taken
        if not left:
            self.data = data
            self._taken = self._searched = 0
        elif left <= len(data):
            # As much is moved as comes, at most.
            self.data = bytes(self.data[taken:]) + data
            self._taken = 0
            self._searched = max(self._searched - taken, 0)
        else:
            if not isinstance(self.data, bytearray):
                self.data = bytearray(self.data)
            self.data += data

    def unread(self, data: bytes) -> None:
        """Put `data` in front of what waits to be taken."""
        back = self._taken - len(data)
        if back >= 0 and self.data[back : self._taken] == data:
            self._taken = back  # it was taken from there: nothing need be copied
            self._searched = 0
            return
        self.data = bytes(data) + self.data[self._taken :]
        self._taken = self._searched = 0

    def peek(self, max_bytes: int | None = None) -> bytes:
        """What waits to be taken, or its first `max_bytes` bytes."""
        if max_bytes is None:
            return bytes(self.data[self._taken :])
        return bytes(self.data[self._taken : self._taken + max_bytes])

    def next_line(self, max_bytes: int | None = None) -> bytes | None:
        """Take the next line, as it came, with the LF or CRLF that ends it.

        None means that its end has not come yet. Raises `LineTooLong` as soon as it is certain
        that the line, its ending not counted, is longer than `max_bytes`; then nothing is taken.
        """
        data, start = self.data, self._taken
        since = start
        if self._searched > start and self._sought == b"\n":
            since = self._searched
        end = data.find(b"\n", since)
        if end < 0:
            self._not_found(b"\n", len(data))
            length = len(data) - start
            # A CR at the end may be half of the line's ending.
            if max_bytes is not None and length - data.endswith(b"\r") > max_bytes:
                raise LineTooLong(max_bytes)
            return None
        length = end - start
        if (
            max_bytes is not None
            and length > max_bytes
            and length - (data[end - 1] == 0x0D) > max_bytes
        ):
            self._not_found(b"\n", end)  # for another try
            raise LineTooLong(max_bytes)
        end += 1
        if end < len(data) and isinstance(data, bytes):
            # As `take`, which would be a call more for each line of a batch.
            self._taken = end
            return data[start:end]
        return self.take(length + 1)

    def next_until(
        self, separators: bytes | Sequence[bytes], max_bytes: int | None = None
    ) -> bytes | None:
        """Take what comes up to one of `separators`, and it.

        It ends where the first of them is complete. None means that none has come yet. Raises
        `MessageTooLong` as soon as it is certain that what comes before it is longer than
        `max_bytes` bytes; then nothing is taken.
        """
        data, start = self.data, self._taken
        since = start
        if self._searched > start and self._sought == separators:
            since = self._searched
        best = best_size = 0
        longest = len(separators) if isinstance(separators, bytes) else max(map(len, separators))
        # What lies beyond the limit need not be found: much may wait there, again and again.
        end = len(data)
        if max_bytes is not None and end - start > max_bytes + longest:
            end = start + max_bytes + longest
        if isinstance(separators, bytes):
            at = data.find(separators, since, end)
            if at >= 0:
                best, best_size = at + longest, longest
        else:
            for each in separators:
                # One that ends later than the best so far need not be found.
                at = data.find(each, since, best - 1 if best else end)
                if at >= 0:
                    best, best_size = at + len(each), len(each)
        if not best:
            # The beginning of one may be there.
            self._not_found(separators, max(end - longest + 1, start))
            if max_bytes is not None and end - start - (longest - 1) > max_bytes:
                raise MessageTooLong(max_bytes)
            return None
        if max_bytes is not None and best - best_size - start > max_bytes:
            raise MessageTooLong(max_bytes)
        return self.take(best - start)

    def next_frame(self, framing: Framing) -> bytes | None:
        """Take the next frame, without its prefix. None means that it has not all come yet.

        Raises `FrameTooLong` and `BadFrame` as soon as its prefix has come; then nothing is taken.
        """
        head = framing.head(self.data, self._taken)
        if head is None:
            return None
        begin, end = head
        if end > len(self.data):
            return None
        self._taken = begin
        return self.take(end - begin) if end > begin else self._nothing()

    def _nothing(self) -> bytes:
        """What was taken is a prefix only."""
        if self._taken == len(self.data):
            self.data = b""
            self._taken = self._searched = 0
        return b""

    def _not_found(self, sought: bytes | Sequence[bytes], searched: int) -> None:
        self._sought = sought
        self._searched = searched

    def take(self, max_bytes: int) -> bytes:
        """Take at most `max_bytes` bytes, from the front. Raises ValueError if that is negative."""
        if max_bytes < 0:
            raise ValueError(f"can't take {max_bytes} bytes: ask for 0 or more")
        data, start = self.data, self._taken
        end = start + max_bytes
        if end < len(data):
            self._taken = end
            if isinstance(data, bytes):
                return data[start:end]
            taken = bytes(data[start:end])
            if end > _COMPACT and end * 2 > len(data):
                del data[:end]
                self._taken = 0
                self._searched = max(self._searched - end, 0)
            return taken
        self.data = b""
        self._taken = self._searched = 0
        return bytes(data[start:] if start else data)

    def take_rest(self) -> bytes:
        """Take all that is there."""
        return self.take(len(self))
