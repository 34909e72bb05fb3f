"""A line-based echo: each line is answered when it is complete."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from anysock.errors import LineTooLong
from anysock.net.receive_buffer import MAX_LINE
from anysock.streams.connection import Connection

_log = logging.getLogger("anysock.lines")


def make_lines(
    prefix: bytes = b"", max_line: int = MAX_LINE
) -> Callable[[Connection], Awaitable[None]]:
    """A handler that answers each line with `prefix` and the line, as it was received.

    A line ends with LF or CRLF. A rest at the end of the stream is no line: it is sent back as it
    is. A line of more than `max_line` bytes, without its ending, is answered with an error, and
    the connection is closed.
    """

    async def lines(connection: Connection) -> None:
        try:
            async for line in connection.lines(max_line):
                _log.debug("All the data is: %r", line, extra={"peer": connection.peer})
                if line.endswith(b"\n"):
                    await connection.send_all(prefix + line)
                else:
                    await connection.send_all(line)
        except LineTooLong as error:
            _log.warning("%s sent a %s", connection.peer, error, extra={"peer": connection.peer})
            await connection.send_all(b"error: %b\r\n" % str(error).encode())

    return lines
