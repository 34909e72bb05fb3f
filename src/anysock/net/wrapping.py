"""A Stream around a Stream, which changes nothing: the base of those that do."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from anysock.engines.base import Data, SockAddr, Stream


class WrappedStream:
    """Hands everything on to the stream inside."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner

    @property
    def bytes_received(self) -> int:
        return self._inner.bytes_received

    @property
    def bytes_sent(self) -> int:
        return self._inner.bytes_sent

    @property
    def lost(self) -> OSError | None:
        return self._inner.lost

    @property
    def peer(self) -> SockAddr:
        return self._inner.peer

    @property
    def local(self) -> SockAddr:
        return self._inner.local

    @property
    def receiving(self) -> bool:
        return self._inner.receiving

    @property
    def sending(self) -> bool:
        return self._inner.sending

    @property
    def tls(self) -> Any:
        return self._inner.tls

    def progress(self) -> int:
        return self._inner.progress()

    def set_recv_size(self, max_bytes: int) -> None:
        self._inner.set_recv_size(max_bytes)

    def recv(self, max_bytes: int | None = None) -> Awaitable[bytes]:
        return self._inner.recv(max_bytes)

    def send_all(self, data: Data) -> Awaitable[None]:
        return self._inner.send_all(data)

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    def end_receiving(self) -> None:
        self._inner.end_receiving()

    async def close(self) -> None:
        await self._inner.close()

    def abort(self) -> None:
        self._inner.abort()
