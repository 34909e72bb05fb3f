"""Sockets for the tasks of trio."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import trio

from anysock.engines.base import Data
from anysock.engines.posix.datagrams import SocketDatagrams
from anysock.engines.posix.streams import OPS_BEFORE_YIELD, AwaitingStream, whole
from anysock.engines.trio.tasks import deliver_cancel_once
from anysock.errors import StreamClosed


class TrioStream(AwaitingStream):
    """A `Stream` over a non-blocking socket, for tasks of trio."""

    async def recv(self, max_bytes: int | None = None) -> bytes:
        await self._begin_receiving()
        try:
            asked = max_bytes or self._recv_size
            while True:
                self._state.check_receive()
                try:
                    data = b"" if self._state.receiving_over else self._sock.recv(asked)
                    break
                except BlockingIOError:
                    await self._until(trio.lowlevel.wait_readable)
                    self._ops_left = OPS_BEFORE_YIELD
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._receiving = False
        size = len(data)
        if not size:
            return self._received_nothing()
        self.bytes_received += size
        if size == asked:
            self._grow(asked)
        return data

    async def send_all(self, data: Data) -> None:
        rest = memoryview(data)  # a TypeError for what is no bytes, before anything has begun
        await self._begin_sending()
        try:
            while True:
                self._state.check_send()
                try:
                    sent = self._sock.send(rest)
                except BlockingIOError:
                    sent = 0
                self.bytes_sent += sent
                rest = rest[sent:]
                if not rest:
                    return
                self.unsent = whole(data)
                with self._engine.pauses:
                    await self._until(trio.lowlevel.wait_writable)
                self._ops_left = OPS_BEFORE_YIELD
        except trio.Cancelled:
            self._state.give_up_send(len(data) - len(rest))
            raise
        except OSError as error:
            raise self._explain(error) from None
        finally:
            self._sending = False
            self.unsent = 0

    async def _until(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Wait until the socket is ready, or the stream is aborted."""
        try:
            await wait_for_socket(wait, self._sock)
        except StreamClosed:
            if self._state.closed:
                raise

    def _wake_sender(self) -> None:
        trio.lowlevel.notify_closing(self._sock)  # it is not; it wakes both

    async def _release(self) -> None:
        # Wakes the tasks that wait: trio must not be left with a descriptor that we have closed.
        trio.lowlevel.notify_closing(self._sock)
        await super()._release()


async def wait_for_socket(
    wait: Callable[[socket.socket], Awaitable[None]], sock: socket.socket
) -> None:
    """Wait until a socket is ready. Raises `StreamClosed` when it is closed meanwhile."""
    try:
        await deliver_cancel_once(wait(sock))
    except trio.ClosedResourceError:
        raise StreamClosed("closed while a task waited on it") from None


class TrioDatagrams(SocketDatagrams):
    """A UDP socket, for tasks of trio."""

    async def _until_readable(self) -> None:
        await wait_for_socket(trio.lowlevel.wait_readable, self._sock)

    def _wake(self) -> None:
        trio.lowlevel.notify_closing(self._sock)
