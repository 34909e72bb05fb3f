"""``--fail-on``: the handler fails, to show what happens then."""

from __future__ import annotations

from anysock.engines.base import Stream
from anysock.options.units import raw_bytes
from anysock.streams.wrapping import WrappedStream


class Failure(Exception):
    """The failure that ``--fail-on`` asks for."""


class FailOnLine(WrappedStream):
    """Raises `Failure` when the peer has sent a line that equals `text`.

    A line, not a chunk: TCP may bring ``boom`` in two pieces, or in one piece with the line before
    it. What came before that line is received as usual; the line itself raises.
    """

    def __init__(self, inner: Stream, text: str) -> None:
        super().__init__(inner)
        self._text = raw_bytes(text)
        # The beginning of the present line: as much as could still be `text` and CR. A longer line
        # can't match, so that a line without end costs no memory.
        self._begun = b""
        self._enough = len(self._text) + 2
        self._failed = False

    async def recv(self, max_bytes: int | None = None) -> bytes:
        data = b"" if self._failed else await super().recv(max_bytes)
        start = 0
        while not self._failed and (end := data.find(b"\n", start)) >= 0:
            line = self._begun + data[start : min(end, start + self._enough)]
            if line.removesuffix(b"\r") == self._text:
                self._failed = True
            else:
                self._begun = b""
                start = end + 1
        if not self._failed:
            rest = self._begun + data[start : start + self._enough]
            self._begun = rest[: self._enough]
            if data or self._begun != self._text:
                return data
            self._failed = True  # the last line, which has no ending
        if start:
            return data[:start]
        text = self._text.decode(errors="backslashreplace")
        raise Failure(f"the client sent the line {text!r}, and --fail-on is set")
