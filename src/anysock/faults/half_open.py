"""``--half-open``: connections that are dead, as if the server's machine had lost its power."""

from __future__ import annotations

from anysock.engines.base import Data, Stream
from anysock.engines.current import current_engine
from anysock.engines.stream_state import StreamState
from anysock.faults.ending import EndOnPurpose
from anysock.streams.lock import Claim
from anysock.streams.wrapping import WrappedStream


class HalfOpenStream(WrappedStream):
    """Receives nothing and sends nothing: each operation waits. Even `close` waits, until the
    server ends or aborts the connection, for one of its limits or because it drains; then the peer
    gets a reset, as from a machine that has come back.

    Nothing is read from the peer, so that its end of stream is not noticed. (The operating system
    still acknowledges what comes, until its buffer is full: we can't keep it from that.)

    To the server, the connection looks at rest.
    """

    def __init__(self, inner: Stream) -> None:
        super().__init__(inner)
        self._over = current_engine().event()
        self._state = StreamState()
        self._one_sends, self._one_receives = Claim("sending"), Claim("receiving")

    @property
    def lost(self) -> OSError | None:
        return self._state.lost

    @property
    def receiving(self) -> bool:
        return not self._over.is_set()

    @property
    def sending(self) -> bool:
        return False

    def has_come(self) -> bool:
        return False

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self._check_receive()
        with self._one_receives:
            await self._over.wait()
        self._check_receive()
        return b""

    async def send_all(self, data: Data) -> None:
        self._state.check_send()
        with self._one_sends:
            await self._over.wait()
        self._state.check_send()
        self._state.lose(EndOnPurpose("half-open on purpose"))
        self._state.check_send()

    async def send_eof(self) -> None:
        self._state.check_send("send_eof")
        with self._one_sends:
            self._state.end_sending()

    def _check_receive(self) -> None:
        self._state.check_receive()
        if self._state.lost is not None:
            raise self._state.lost

    def end_receiving(self) -> None:
        self._over.set()

    async def close(self) -> None:
        try:
            await self._over.wait()
        finally:
            self._state.close()
            self._over.set()
            self._inner.abort()
            await self._inner.close()

    def abort(self) -> None:
        if not self._over.is_set() and self._state.lost is None:
            self._state.abort()
        self._inner.abort()
        self._over.set()
