"""A stream that logs each chunk as it comes: what ``anysock serve -v`` shows."""

from __future__ import annotations

import logging

from anysock.streams.wrapping import WrappedStream

_log = logging.getLogger("anysock.trace")


class TracingStream(WrappedStream):
    """Logs ``I got data: b'he'`` for each receive, at level debug."""

    async def recv(self, max_bytes: int | None = None) -> bytes:
        data = await super().recv(max_bytes)
        if data:
            _log.debug("I got data: %r", data, extra={"peer": self.peer})
        return data
