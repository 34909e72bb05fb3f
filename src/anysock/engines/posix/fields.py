"""The numbers that a stream's messages change: fields of the compiled path, or slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysock.machine.compiled import fast

if TYPE_CHECKING or fast is None:

    class Fields:
        """The base of streams over sockets. Where the path of a message is compiled, these are
        numbers of C: as objects of Python they would be made anew for each message."""

        __slots__ = (
            "_budget",
            "_counted_since",
            "_fd",
            "_max_recv_size",
            "_more",
            "_recv_size",
            "_write_fd",
            "bytes_received",
            "bytes_sent",
            "unsent",
        )

        bytes_received: int
        bytes_sent: int
        #: While a `send_all` waits for its peer, how many bytes it was given.
        unsent: int
        # How much the next receive asks for, and the most that one ever does.
        _recv_size: int
        _max_recv_size: int
        # The descriptor; and where it is written to.
        _fd: int
        _write_fd: int
        # Whether there may be data that was not waited for, so that it is worth a try.
        _more: bool
        # The operations that are left before the other tasks must have run; and the iteration of
        # the loop since which they are counted.
        _budget: int
        _counted_since: int

        def _begin(self, fd: int, recv_size: int, max_recv_size: int, budget: int) -> None:
            """All of them, as they are for a new stream."""
            # (One number for both, since above 256 each that the socket makes has an object of its
            # own.)
            self._fd = self._write_fd = fd
            self._recv_size = recv_size
            self._max_recv_size = max_recv_size
            self._budget = budget
            self._more = True
            self.bytes_received = self.bytes_sent = self.unsent = self._counted_since = 0

else:
    Fields = fast.Fields
