"""``--half-open``: connections that are dead, as if the server's machine had lost its power."""

from __future__ import annotations

from anysock.engines.base import Data, Stream
from anysock.engines.current import current_engine
from anysock.errors import StreamAborted, StreamClosed, stream_closed
from anysock.faults.ending import EndOnPurpose
from anysock.streams.lock import Claim
from anysock.streams.wrapping import WrappedStream


class HalfOpenStream(WrappedStream):
    """Receives nothing and sends nothing: who tries waits. It does not even close, until the server
    ends or aborts it, for one of its limits or because it drains; then the peer gets a reset, as
    from a machine that has come back.

    Nothing is read from the peer, and so its end of stream is not noticed. (The operating system
    still acknowledges what comes, until its buffer is full: that we can't keep it from.)

    As the server sees it, it is at rest.
    """

    def __init__(self, inner: Stream) -> None:
        super().__init__(inner)
        self._over = current_engine().event()
        self._lost: OSError | None = None
        self._one_sends, self._one_receives = Claim("sending"), Claim("receiving")
        self._eof_sent = False
        self._closed = False

    @property
    def lost(self) -> OSError | None:
        return self._lost

    @property
    def receiving(self) -> bool:
        return not self._over.is_set()

    @property
    def sending(self) -> bool:
        return False

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self._check("recv")
        with self._one_receives:
            await self._over.wait()
        self._check("recv")
        return b""

    async def send_all(self, data: Data) -> None:
        self._check("send_all")
        if self._eof_sent:
            raise StreamClosed("send_all() after send_eof()")
        with self._one_sends:
            await self._over.wait()
        self._check("send_all")
        self._lost = EndOnPurpose("half-open on purpose")
        raise self._lost

    async def send_eof(self) -> None:
        self._check("send_eof")
        with self._one_sends:
            self._eof_sent = True

    def _check(self, what: str) -> None:
        if self._closed:
            raise stream_closed(what)
        if self._lost is not None:
            raise self._lost

    def end_receiving(self) -> None:
        self._over.set()

    async def close(self) -> None:
        try:
            await self._over.wait()
        finally:
            self._closed = True
            self._over.set()
            self._inner.abort()
            await self._inner.close()

    def abort(self) -> None:
        if not self._over.is_set() and self._lost is None:
            self._lost = StreamAborted("aborted on our side")
        self._inner.abort()
        self._over.set()
