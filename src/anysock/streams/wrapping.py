"""A Stream around a Stream, which changes nothing: the bases of those that do."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from anysock.engines.base import Data, Keepalive, PeerCredentials, SockAddr, Stream
from anysock.engines.stream_state import StreamState
from anysock.errors import AnysockError
from anysock.streams.lock import Claim

S = TypeVar("S", bound=Stream)


class WrappedStream:
    """Hands everything on to the stream inside."""

    #: See `Stream`: what is changed on its way is changed as a whole.
    vectored = False
    #: Whether what goes through the stream inside is another language than ours, as with TLS: then
    #: nothing is put between the two.
    opaque = False

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
    def end_received(self) -> bool:
        return self._inner.end_received

    def has_come(self) -> bool:
        return self._inner.has_come()

    @property
    def peer(self) -> SockAddr:
        return self._inner.peer

    @property
    def local(self) -> SockAddr:
        return self._inner.local

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        return self._inner.peer_credentials

    @property
    def receiving(self) -> bool:
        return self._inner.receiving

    @property
    def sending(self) -> bool:
        return self._inner.sending

    @property
    def tls(self) -> Any:
        return self._inner.tls

    @property
    def held(self) -> int:
        return self._inner.held

    def progress(self) -> int:
        return self._inner.progress()

    def set_recv_size(self, max_bytes: int) -> None:
        self._inner.set_recv_size(max_bytes)

    def recv(self, max_bytes: int | None = None) -> Awaitable[bytes]:
        return self._inner.recv(max_bytes)

    def send_all(self, data: Data) -> Awaitable[None]:
        return self._inner.send_all(data)

    def send_file(self, fd: int, offset: int, count: int) -> Awaitable[int] | None:
        return None  # the bytes have to pass by here

    def break_sending(self) -> None:
        self._inner.break_sending()

    def set_keepalive(self, keepalive: Keepalive | None) -> None:
        self._inner.set_keepalive(keepalive)

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    def end_receiving(self) -> None:
        self._inner.end_receiving()

    def put_inside(self, make: Callable[[Stream], S]) -> S:
        """Put a stream around the innermost one, or around the outermost that is `opaque`, beneath
        all that stand around that; and return it. To be called while nobody receives or sends."""
        inner = self._inner
        if isinstance(inner, WrappedStream) and not inner.opaque:
            return inner.put_inside(make)
        made = make(inner)
        self._inner = made
        return made

    async def until_handed_on(self) -> None:
        """Wait until all that was sent is handed to the innermost stream: one that delays returns
        from `send_all` before. Raises nothing of what has become of it."""
        if isinstance(self._inner, WrappedStream):
            await self._inner.until_handed_on()

    async def close(self) -> None:
        await self._inner.close()

    def abort(self) -> None:
        self._inner.abort()


class PartingStream(WrappedStream):
    """The base of streams whose `send_all` has several steps, and may be cancelled between them.

    It keeps the contract for a second sender, and for sending after the end. The stream inside
    can't: between two steps it does not know that more is to come.
    """

    def __init__(self, inner: Stream) -> None:
        super().__init__(inner)
        self._one_sends = Claim("sending")
        self._one_receives = Claim("receiving")
        self._state = StreamState()

    async def send_all(self, data: Data) -> None:
        self._check_send("send_all")
        with self._one_sends:
            rest = memoryview(data)
            try:
                while rest:
                    sent = await self._send_part(rest)
                    rest = rest[sent:]
            except (OSError, AnysockError):
                raise  # the stream inside knows, and raises it again
            except BaseException:
                self._state.give_up_send(len(data) - len(rest))
                raise

    def break_sending(self) -> None:
        self._state.give_up_send(None)

    async def _send_part(self, data: memoryview) -> int:
        """Send as much of `data` as may be sent at once; return how much that was."""
        raise NotImplementedError

    async def send_eof(self) -> None:
        self._check_send("send_eof")
        if self._state.end_sent:
            return
        with self._one_sends:
            await self._send_end()
            self._state.end_sending()

    async def _send_end(self) -> None:
        await self._inner.send_eof()

    async def close(self) -> None:
        self._state.close()
        await self._inner.close()

    @contextlib.contextmanager
    def _only_receiver(self) -> Iterator[None]:
        """A block that receives, for one task. Raises what stands against it."""
        self._state.check_receive()
        if self._one_receives.taken and self._inner.lost is not None:
            raise self._inner.lost
        with self._one_receives:
            yield

    def _check_send(self, what: str) -> None:
        """Raise what stands against sending, besides another task that does."""
        self._state.check_send(what, self._lost_below())

    def _lost_below(self) -> Exception | None:
        """What has happened to the stream inside, as far as it counts here: where something may be
        sent, the stream inside says itself what stands against that."""
        return self._inner.lost if self._state.sending_over or self._one_sends.taken else None
