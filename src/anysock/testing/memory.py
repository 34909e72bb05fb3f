"""Two ends of a connection in memory."""

from __future__ import annotations

import collections
import errno
import os
import threading
from typing import Any, TypeVar, overload

from anysock.engines.base import Data, Engine, Event, Keepalive, SockAddr
from anysock.engines.current import current_engine
from anysock.engines.posix.streams import OPS_BEFORE_YIELD, whole
from anysock.engines.stream_state import StreamState
from anysock.errors import UsageError, WrongType
from anysock.streams.connection import Connection
from anysock.streams.lock import Claim

State = TypeVar("State")

# What is received at once where no limit is given, in bytes: as over a socket that is in use.
_RECV_SIZE = 262_144


@overload
def connection_pair(buffer: int = 65_536) -> tuple[Connection, Connection]: ...
@overload
def connection_pair(
    buffer: int = 65_536, *, state: State
) -> tuple[Connection[None], Connection[State]]: ...
def connection_pair(buffer: int = 65_536, *, state: Any = None) -> tuple[Connection, Connection]:
    """Two ends of one connection, without a socket: what is sent on one is received on the other.

    Both do what connections over TCP do: each direction holds up to `buffer` bytes that are not
    received yet, and then whoever sends waits; `send_eof` ends one direction; a `close` is the end
    of the stream for the other end, and after an `abort` a reset. But everything arrives at once,
    whole and in order, so that a test is the same each time. To be called where an engine runs, and
    used under that one. Where that does one thing at a time (`blocking`), an operation that would
    have to wait raises `UsageError`.

    The second is for a handler: it has the `state` that is given, as a server has it of its
    lifespan.

    >>> import anysock
    >>> from anysock.testing import connection_pair
    >>> async def shout(connection):
    ...     async for line in connection.lines():
    ...         await connection.send_all(line.upper())
    >>> async def main():
    ...     client, server = connection_pair()
    ...     async with client, anysock.task_group() as group:
    ...         group.spawn(shout(server))
    ...         await client.send_all(b"hello\\n")
    ...         answer = await client.recv_line()
    ...         await client.send_eof()
    ...     return answer
    >>> anysock.run(main)
    b'HELLO\\n'
    """
    if not isinstance(buffer, int):
        raise WrongType(f"connection_pair() takes a number of bytes, not {buffer!r}")
    if buffer < 1:
        raise UsageError(f"connection_pair() holds at least 1 byte, not {buffer}")
    engine, lock = current_engine(), threading.Lock()
    there, back = _Direction(buffer), _Direction(buffer)
    one, two = ("memory", 1), ("memory", 2)
    near: Connection = Connection(MemoryStream(engine, lock, back, there, local=one, peer=two))
    far: Connection = Connection(MemoryStream(engine, lock, there, back, local=two, peer=one))
    far.state = state
    return near, far


class _Direction:
    """What one end has sent and the other has not received, and who waits for what. To be used
    with the lock of the pair held."""

    def __init__(self, most: int) -> None:
        self.size = 0
        #: Whether nothing more will be sent; and what the receiver meets instead of a good end.
        self.ended = False
        self.reset: OSError | None = None
        #: What the sender meets since the receiver has closed; None: it has not.
        self.refused: OSError | None = None
        self.receiver: Event | None = None
        self.sender: Event | None = None
        self._most = most
        self._chunks: collections.deque[bytes] = collections.deque()

    def put(self, data: memoryview) -> int:
        """Take as much of `data` as there is room for; return how much that is."""
        taken = data[: self._most - self.size]
        if len(taken):
            self._chunks.append(bytes(taken))
            self.size += len(taken)
            self.wake_receiver()
        return len(taken)

    def take(self, most: int) -> bytes:
        """Up to `most` bytes of what is there."""
        if not self._chunks:
            return b""
        data = self._chunks.popleft()
        if len(data) > most:
            self._chunks.appendleft(data[most:])
            data = data[:most]
        self.size -= len(data)
        self.wake_sender()
        return data

    def wake_receiver(self) -> None:
        if self.receiver is not None:
            self.receiver.set()

    def wake_sender(self) -> None:
        if self.sender is not None:
            self.sender.set()


class MemoryStream:
    """One end, as a `Stream`."""

    vectored = False
    peer_credentials = None
    tls = None

    def __init__(
        self,
        engine: Engine,
        lock: threading.Lock,
        incoming: _Direction,
        outgoing: _Direction,
        *,
        local: SockAddr,
        peer: SockAddr,
    ) -> None:
        self.local, self.peer = local, peer
        self.bytes_received = self.bytes_sent = 0
        self._engine = engine
        # For `threads`: of both ends. No task waits with it.
        self._lock = lock
        self._incoming, self._outgoing = incoming, outgoing
        self._state = StreamState()
        self._in_recv, self._in_send = Claim("receiving"), Claim("sending")
        self._recv_size = _RECV_SIZE
        self._unsent = 0
        self._ops_left = OPS_BEFORE_YIELD

    @property
    def lost(self) -> OSError | None:
        return self._state.lost

    @property
    def end_received(self) -> bool:
        return self._state.end_received

    def has_come(self) -> bool:
        incoming = self._incoming
        ended = incoming.ended and not self._state.end_received
        return bool(incoming.size or ended or incoming.reset)

    @property
    def receiving(self) -> bool:
        return self._in_recv.taken

    @property
    def sending(self) -> bool:
        return self._in_send.taken

    @property
    def held(self) -> int:
        return self._incoming.size + self._unsent

    def progress(self) -> int:
        return self.bytes_sent - self._outgoing.size

    def set_recv_size(self, max_bytes: int) -> None:
        self._recv_size = max_bytes

    def set_keepalive(self, keepalive: Keepalive | None) -> None:
        """Nothing is needed to watch over this peer."""

    # -- receiving -------------------------------------------------------------------------------

    async def recv(self, max_bytes: int | None = None) -> bytes:
        most = max_bytes or self._recv_size
        if most < 0:
            raise ValueError("recv() takes a number of bytes that is not negative")
        self._state.check_receive()
        with self._in_recv:
            await self._let_others_run()
            while (data := self._try_to_receive(most)) is None:
                await self._wait(self._incoming.receiver)
            return data

    def _try_to_receive(self, most: int) -> bytes | None:
        """None: there is nothing yet, and `receiver` of the direction tells when to look again."""
        state, incoming = self._state, self._incoming
        with self._lock:
            state.check_receive()
            if not state.receiving_over and (data := incoming.take(most)):
                self.bytes_received += len(data)
                return data
            if incoming.reset is not None:
                state.lose(incoming.reset)
            if incoming.ended or state.receiving_ended:
                state.meet_end()
                return b""
            incoming.receiver = self._engine.event()
            return None

    def end_receiving(self) -> None:
        self._state.end_receiving()
        with self._lock:
            self._incoming.wake_receiver()

    # -- sending ---------------------------------------------------------------------------------

    async def send_all(self, data: Data) -> None:
        view = memoryview(data)
        sent = 0
        self._state.check_send()
        with self._in_send:
            await self._let_others_run()
            try:
                while True:
                    sent += self._send_some(view[sent:])
                    if sent == len(view):
                        return
                    self._unsent = whole(data)
                    with self._engine.pauses:
                        await self._wait(self._outgoing.sender)
            except self._engine.cancellations:
                self._state.give_up_send(sent)
                raise
            finally:
                self._unsent = 0

    def _send_some(self, data: memoryview) -> int:
        outgoing = self._outgoing
        with self._lock:
            self._check_send("send_all", outgoing.refused)
            sent = outgoing.put(data)
            self.bytes_sent += sent
            if sent < len(data):
                outgoing.sender = self._engine.event()
            return sent

    def _check_send(self, what: str, refused: OSError | None) -> None:
        if refused is not None and not self._state.closed:
            self._state.lose(refused)
        self._state.check_send(what)

    def send_file(self, fd: int, offset: int, count: int) -> None:
        return None

    def break_sending(self) -> None:
        self._state.give_up_send(None)

    async def send_eof(self) -> None:
        with self._lock:
            self._check_send("send_eof", self._incoming.reset)
            if not self._state.end_sent:
                with self._in_send:
                    self._state.end_sending()
                    self._outgoing.ended = True
                    self._outgoing.wake_receiver()

    # -- the end ---------------------------------------------------------------------------------

    async def close(self) -> None:
        if not self._state.close():
            return
        incoming, outgoing = self._incoming, self._outgoing
        with self._lock:
            if self._state.aborted:
                outgoing.reset = incoming.refused = _error(errno.ECONNRESET)
            else:
                incoming.refused = _error(errno.EPIPE)
            outgoing.ended = True
            for direction in (incoming, outgoing):
                direction.wake_receiver()
                direction.wake_sender()

    def abort(self) -> None:
        if self._state.abort():
            with self._lock:
                self._incoming.wake_receiver()
                self._outgoing.wake_sender()

    # --------------------------------------------------------------------------------------------

    async def _let_others_run(self) -> None:
        """Before an operation: what it moves would be lost if its task were cancelled after it."""
        self._ops_left -= 1
        if self._ops_left < 0:
            self._ops_left = OPS_BEFORE_YIELD
            await self._engine.sleep(0)

    async def _wait(self, event: Event | None) -> None:
        if not self._engine.concurrent:
            raise UsageError(
                f"the engine {self._engine.name!r} does one thing at a time, so nobody would ever "
                "end this wait: use another engine"
            )
        assert event is not None
        await event.wait()
        self._ops_left = OPS_BEFORE_YIELD


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
