"""Connected sockets, by operations that the system completes.

A receive is asked for once, and stays: what it brings lies in the `Conduit` until it is taken, and
when 64 KiB lie there unread, the receive is taken back until they are. In bulk there is a poll in
its place, and what has come is received straight into the bytes that are handed out.

A send of up to 256 KiB is in flight when `send_all` returns, and up to 64 KiB more are kept to
follow it; whoever sends more waits. So no more than 384 KiB of a connection are ours and not the
system's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import types
from collections.abc import Awaitable, Generator, Sequence
from typing import Any

from anysock.engines.base import Data, Engine, SockAddr
from anysock.engines.finished import FINISHED
from anysock.engines.nonblocking.pacing import NOT_NOW, NOT_YET, PacedStream
from anysock.engines.posix.streams import (
    LINGER_SECONDS,
    MAX_SEND_SIZE,
    second_sender,
    whole,
)
from anysock.engines.stream_state import State
from anysock.engines.uring.available import module
from anysock.errors import AnysockError, StreamBusy, StreamClosed
from anysock.loop.kernel import Kernel
from anysock.loop.tasks import Task, Wait, suspend
from anysock.machine.compiled import fast

# How long a peer may take, after the close, for what was sent before it: up to 320 KiB, and what
# the systems of both have buffered.
MAX_LINGER_SECONDS = 60.0

_uring: Any = module()


def _second_reader() -> StreamBusy:
    return StreamBusy("another task is already waiting to receive here")


class _Received(Wait):
    """Pause until something has come."""

    __slots__ = ("conduit",)

    kind = "read"

    def __init__(self, conduit: Any) -> None:
        self.conduit = conduit

    def enter(self, task: Task) -> None:
        if self.conduit.reader is not None:
            raise _second_reader()
        self.conduit.reader = task

    def leave(self, task: Task) -> None:
        self.conduit.reader = None


class _Sent(Wait):
    """Pause until nothing is in flight any more."""

    __slots__ = ("conduit",)

    kind = "write"

    def __init__(self, conduit: Any) -> None:
        self.conduit = conduit

    def enter(self, task: Task) -> None:
        if self.conduit.sender is not None:
            raise second_sender()
        self.conduit.sender = task

    def leave(self, task: Task) -> None:
        self.conduit.sender = None


class UringStream(PacedStream):
    """A `Stream` over a socket that blocks: its operations are the ring's, which waits for it."""

    vectored = True

    __slots__ = ("_readable", "conduit")

    _watch: Kernel

    def __init__(
        self, engine: Engine, kernel: Kernel, ring: Any, sock: socket.socket, peer: SockAddr
    ) -> None:
        super().__init__(engine, sock, peer)
        self._watch = kernel
        #: What is in flight.
        self.conduit = _uring.Conduit(ring, sock.fileno())
        # One wait for all receives: our kernel knows it again, and has nothing to do.
        self._readable = _Received(self.conduit)

    # A task that runs straight from the ring still stands where it waited a moment ago, but it no
    # longer waits.

    @property
    def receiving(self) -> bool:
        return self.conduit.reader not in (None, self._watch.current)

    @property
    def sending(self) -> bool:
        return self.conduit.sender not in (None, self._watch.current)

    @property
    def held(self) -> int:
        unread: int = self.conduit.unread
        return self.unsent + unread

    def progress(self) -> int:
        return super().progress() - int(self.conduit.unsent)

    # -- receiving: what the compiled `recv` leaves over -------------------------------------------

    @types.coroutine
    def _recv_more(self, max_bytes: int | None) -> Generator[Wait, None, bytes]:
        """Something has come already, or nothing comes any more."""
        conduit = self.conduit
        if self._state.receiving_over:
            return self._received_nothing()
        asked = max_bytes or self._max_recv_size
        if self.receiving:
            raise _second_reader()
        if not self._may_go_on(1 + (asked >> 16)) and not conduit.unusual:
            conduit.again()
            yield self._readable
        while True:
            self._state.check_receive()
            if conduit.unread:
                data: bytes = conduit.take(asked)
                self.bytes_received += len(data)
                return data
            if conduit.ended or conduit.unusual:
                if conduit.error:
                    raise self._explain(OSError(conduit.error, os.strerror(conduit.error)))
                return self._received_nothing()
            conduit.arm(asked)
            yield self._readable

    # -- sending: what the compiled `send_all` leaves over -----------------------------------------

    def _send_more(self, data: Data) -> Awaitable[None]:
        if isinstance(data, (list, tuple)):
            return self._send_pieces(data)
        if self._write_fd == NOT_YET:
            return self._send_in_turn(data)
        if self._write_fd < 0:
            raise self._explain(OSError(errno.EBADF, os.strerror(errno.EBADF)))
        self._check_sent()
        view = memoryview(data)
        size = view.nbytes
        if not size:
            return FINISHED
        if self.conduit.queue(view):
            self.bytes_sent += size
            if not self._may_go_on():
                self._write_fd = NOT_YET
            return FINISHED
        self._write_fd = NOT_NOW
        return self._send_rest(view.cast("B"))

    def _check_sent(self) -> None:
        """Raise what the operations in flight have met."""
        if code := self.conduit.send_error:
            raise self._explain(OSError(code, os.strerror(code)))

    def _send_pieces(self, pieces: Sequence[Data]) -> Awaitable[None]:
        if len(pieces) == 1:
            return self.send_all(pieces[0])
        return self.send_all(b"".join(pieces))

    async def _send_rest(self, data: memoryview) -> None:
        """Send `data`, bit by bit, each when nothing is in flight."""
        conduit = self.conduit
        gone = 0
        self.unsent = whole(data)
        try:
            with self._engine.pauses:
                while True:
                    self._state.check_send()
                    await self._until_sent(gone)
                    if not data:
                        return
                    part = data[:MAX_SEND_SIZE]
                    # What may change meanwhile is copied: that it does must not be seen.
                    conduit.send(part if isinstance(part.obj, bytes) else bytes(part))
                    self.bytes_sent += len(part)
                    gone += len(part)
                    data = data[len(part) :]
        finally:
            self.unsent = 0
            self._let_send()

    async def _until_sent(self, gone: int) -> None:
        """Wait until nothing is in flight. Raises what stands against sending."""
        conduit = self.conduit
        while conduit.unsent:
            try:
                await suspend(_Sent(conduit))
            except self._engine.cancellations:
                # (What is in flight goes on: it is counted as sent.)
                self._state.give_up_send(gone)
                raise
            self._state.check_send()
        self._check_sent()

    def break_sending(self) -> None:
        super().break_sending()
        self._write_fd = NOT_NOW

    def _let_send(self) -> None:
        if self._state.state is State.OPEN:
            self._write_fd = self._sock.fileno()

    # -- ends --------------------------------------------------------------------------------------

    async def send_eof(self) -> None:
        if self._may_end("send_eof"):
            await self._flush()
            self._state.check_send("send_eof")
            self._end_sending()

    async def _flush(self) -> None:
        """Wait until all is handed over that `send_all` has been given."""
        if not self.conduit.unsent:
            return
        before, self._write_fd = self._write_fd, NOT_NOW
        try:
            while self.conduit.unsent:
                await suspend(_Sent(self.conduit))
        finally:
            self._write_fd = before

    def _end_sending(self) -> None:
        self._write_fd = NOT_NOW
        if not self.conduit.unsent:  # else the close waits for it no longer
            super()._end_sending()

    async def _let_go(self) -> None:
        with contextlib.suppress(AnysockError):
            async with self._engine.scope(LINGER_SECONDS):
                await self._flush()
        if not self.conduit.send_error:
            await super()._let_go()

    def _may_speak_on(self) -> bool:
        conduit = self.conduit
        if conduit.unread or conduit.ended:
            return bool(conduit.unread)
        conduit.hand_over()  # the peer may be one of ours, and speaking
        return super()._may_speak_on()

    def _must_not_block(self) -> None:
        # Nor does one of the ring's. Told so, the socket would have them end with EAGAIN.
        pass

    async def _release(self) -> None:
        self._write_fd = NOT_NOW
        conduit = self.conduit
        for task in (conduit.reader, conduit.sender):
            if task is self._watch.current and task is not None:
                task.wait = None
            elif task is not None:
                self._watch.wake(task, StreamClosed("closed while a task waited on it"))
        conduit.reader = conduit.sender = None
        # As close(2) does it: what is handed over is delivered, unless something is unread.
        lost = self._state.lost is not None
        lingers = conduit.unsent and not (lost or conduit.send_error or self._unread())
        if conduit.close(bool(lingers)):
            self._sock.detach()  # the conduit closes it, when all is sent
            kernel = self._watch
            kernel.timers.add(kernel.clock() + MAX_LINGER_SECONDS, lambda: conduit.close(False))
        else:
            self._sock.close()

    def _unread(self) -> bool:
        try:
            return bool(
                self.conduit.unread or self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            )
        except OSError:
            return False

    def abort(self) -> None:
        super().abort()
        self._write_fd = NOT_NOW
        # What has arrived is not received either.
        self.conduit.unusual = True

    def _wake_sender(self) -> None:
        conduit, kernel = self.conduit, self._watch

        def wake() -> None:
            if (task := conduit.sender) is not None:
                conduit.sender = None
                conduit.cancel_send()
                kernel.wake(task)

        if threading.get_ident() == kernel.thread:
            wake()
        else:
            kernel.call_from_outside(wake)

    def _received_nothing(self) -> bytes:
        if code := self.conduit.send_error:
            # The system tells of a reset once: if a send has met it, what is received is an end.
            self._explain(OSError(code, os.strerror(code)))
        return super()._received_nothing()

    def _explain(self, error: OSError) -> Exception:
        explained = super()._explain(error)
        if self._state.lost is not None:
            # A send would learn of that too late, from its completion.
            self._write_fd = NOT_NOW
        return explained


_methods = _uring.bind(UringStream, Task, Kernel, FINISHED, NOT_YET, fast and fast.Straight)
UringStream.recv, UringStream.send_all = _methods  # type: ignore[method-assign]
