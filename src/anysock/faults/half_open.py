"""``--half-open``: connections that are dead, as if the server's machine had lost its power."""

from __future__ import annotations

from anysock.engines.base import Data, Stream
from anysock.engines.current import current_engine
from anysock.errors import StreamAborted
from anysock.faults.ending import EndOnPurpose
from anysock.net.wrapping import WrappedStream


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
        await self._over.wait()
        if self._lost is not None:
            raise self._lost
        return b""

    async def send_all(self, data: Data) -> None:
        await self._over.wait()
        if self._lost is None:
            self._lost = EndOnPurpose("half-open on purpose")
        raise self._lost

    async def send_eof(self) -> None:
        pass

    def end_receiving(self) -> None:
        self._over.set()

    async def close(self) -> None:
        try:
            await self._over.wait()
        finally:
            self._over.set()
            self._inner.abort()
            await self._inner.close()

    def abort(self) -> None:
        if not self._over.is_set():
            self._lost = StreamAborted("aborted on our side")
        self._inner.abort()
        self._over.set()
