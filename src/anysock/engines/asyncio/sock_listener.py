"""Accepting by ``loop.sock_accept``, with no peer lost to a cancellation."""

from __future__ import annotations

import asyncio
import socket
import types
from collections.abc import Coroutine, Generator
from typing import Any, cast

from anysock.engines.base import SockAddr, Stream
from anysock.engines.posix.listening import SocketListener


class SockListener(SocketListener):
    """A listening socket, and the task that accepts the next peer from it."""

    pending: asyncio.Task[Stream] | None = None
    #: What that task waits for, while it waits for a peer.
    accepting: asyncio.Future[tuple[socket.socket, SockAddr]] | None = None

    def close(self) -> None:
        if self.pending is None or self.pending.done():
            super().close()
        elif not self.closed:
            self.closed = True
            self._waiting = self.listening.accept_waiting()
            # Shut down, the socket stops listening, and the accept(2) that waits fails. Then
            # `AsyncioSockEngine._next_peer` closes it.
            if not self.listening.shut_down() and self.accepting is not None:
                # Its wait, and not the task: that may have a peer already.
                self.accepting.cancel()


@types.coroutine
def accept_peer(listener: SockListener) -> Generator[Any, Any, tuple[socket.socket, SockAddr]]:
    """``loop.sock_accept``; cancelled in the turn in which it has accepted, it returns the peer."""
    accept = cast(
        "Coroutine[Any, Any, tuple[socket.socket, SockAddr]]",
        asyncio.get_running_loop().sock_accept(listener.sock),
    )
    try:
        future = accept.send(None)
    except StopIteration as done:
        return cast("tuple[socket.socket, SockAddr]", done.value)
    listener.accepting = future
    try:
        yield future
    except asyncio.CancelledError:
        if future.cancel() or future.cancelled() or future.exception() is not None:
            raise
    finally:
        listener.accepting = None
        accept.close()
    return cast("tuple[socket.socket, SockAddr]", future.result())


def keep_outcome(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining that an outcome was never retrieved: it is kept for later."""
    if not task.cancelled():
        task.exception()
