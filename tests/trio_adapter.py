"""Our streams as trio's: what code that was written for trio's streams is given."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio

import anysock
from anysock.engines.base import Stream
from anysock.streams.lock import Claim


@contextlib.contextmanager
def errors_of_trio() -> Iterator[None]:
    """What our streams raise, in trio's words."""
    try:
        yield
    except anysock.StreamClosed as error:
        raise trio.ClosedResourceError(str(error)) from error
    except anysock.StreamBusy as error:
        raise trio.BusyResourceError(str(error)) from error
    except (anysock.StreamBroken, OSError) as error:
        raise trio.BrokenResourceError(str(error)) from error


class TrioStream(trio.abc.HalfCloseableStream):
    """A `Stream` of ours; ``until_writable()`` waits until it takes at least one byte."""

    def __init__(self, stream: Stream, until_writable: Callable[[], Awaitable[object]]) -> None:
        self.stream = stream
        self._until_writable = until_writable
        self._sending = Claim("sending")
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with errors_of_trio(), self._sending:
            self._check()
            # Ours do not stop a task that need not wait; trio's rule is that they do.
            await trio.lowlevel.checkpoint()
            await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        with errors_of_trio(), self._sending:
            self._check()
            await trio.lowlevel.checkpoint()
            await self._until_writable()
            self._check()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None:
            if not isinstance(max_bytes, int):
                raise TypeError("max_bytes is a number of bytes")
            if max_bytes < 1:
                raise ValueError("max_bytes is at least 1")
        with errors_of_trio():
            self._check()
            await trio.lowlevel.checkpoint()
            return await self.stream.recv(max_bytes)

    async def send_eof(self) -> None:
        with errors_of_trio(), self._sending:
            self._check()
            await trio.lowlevel.checkpoint()
            await self.stream.send_eof()

    async def aclose(self) -> None:
        self._closed = True
        await self.stream.close()
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self._closed:
            raise anysock.StreamClosed("used after aclose()")


def over_a_socket(stream: Any) -> TrioStream:
    """The adapter for a stream of the engine `trio`."""
    sock: socket.socket = stream._sock

    async def until_writable() -> None:
        await trio.lowlevel.wait_writable(sock)

    return TrioStream(stream, until_writable)


def in_memory(stream: Any) -> TrioStream:
    """The adapter for one end of a connection in memory."""

    async def until_writable() -> None:
        outgoing = stream._outgoing
        while outgoing.size >= outgoing._most and not (outgoing.refused or stream._state.closed):
            outgoing.sender = stream._engine.event()
            await outgoing.sender.wait()

    return TrioStream(stream, until_writable)
