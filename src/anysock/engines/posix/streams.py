"""What streams over the machine's own sockets share, under whichever engine: naming and closing.

The data path, receiving and sending, is each engine's own.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Awaitable

from anysock.engines.base import Data, Engine, Keepalive, PeerCredentials, SockAddr
from anysock.engines.posix.fields import Fields
from anysock.engines.posix.listening import has_waiting, readable_name
from anysock.engines.stream_state import StreamState
from anysock.errors import AnysockError, StreamBusy, StreamClosed

# The first receive asks for little: Python allocates what was asked for, and then shrinks it. So
# much still comes from its own allocator (objects of up to 512 bytes), where 4 KiB come from
# malloc and cost 0.15 µs more. While reads fill what they asked for, the next asks for four times
# as much.
FIRST_RECV_SIZE = 448
MAX_RECV_SIZE = 262_144
RECV_GROWTH = 4

# From 128 KiB on, glibc's malloc maps memory, and unmaps it when it is freed: at every receive, if
# nothing larger was ever freed (mallopt(3), M_MMAP_THRESHOLD). A server that asks for 256 KiB then
# runs at half its speed. So something larger is freed here, once.
_large = bytearray(4 * MAX_RECV_SIZE)
del _large  # not cleared before, which would free one byte: the rest is cut off, and not freed

# Bytes that are handed over at once, where the operating system, or another library's loop, reports
# of a send only that all of it is done: so that `bytes_sent` shows its progress.
MAX_SEND_SIZE = 262_144

# Pieces that are sent as one are joined up to this many bytes: to copy 64 KiB takes 5 µs, and a
# vector of 16 small pieces 1 µs more than their copy.
MAX_JOINED = 65_536

# How many pieces one system call takes (writev(2); POSIX promises 16).
IOV_MAX = os.sysconf("SC_IOV_MAX") if "SC_IOV_MAX" in os.sysconf_names else 16

# How many operations in a row a task may do on one stream without letting the others run. A
# peer that always has data ready, or always reads, would otherwise keep the loop for itself.
OPS_BEFORE_YIELD = 16

# How long a peer that is still sending may take to notice that we have closed.
LINGER_SECONDS = 1.0

# struct linger: on, for 0 seconds. Then close(2) sends a reset (socket(7)).
_LINGER_RESET = struct.pack("ii", 1, 0)


# struct ucred: pid_t, uid_t, gid_t (unix(7)). The option is Linux's.
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", 0)
_UCRED = struct.Struct("iII")

# What macOS calls it (tcp(4) there).
_TCP_KEEPIDLE = getattr(socket, "TCP_KEEPIDLE", None) or getattr(socket, "TCP_KEEPALIVE", None)


def set_keepalive(sock: socket.socket, keepalive: Keepalive | None) -> None:
    """Let TCP watch over the peer of `sock`, or not. Nothing is done on other sockets.

    Raises OSError for numbers that the system refuses.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if keepalive is not None and _TCP_KEEPIDLE is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_KEEPIDLE, keepalive.idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.probes)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keepalive is not None)


def whole(data: Data) -> int:
    """The bytes of memory that a reference to `data` keeps: a part keeps the whole."""
    return memoryview(data.obj).nbytes if isinstance(data, memoryview) else len(data)


# ip(7), for Python before 3.12.
_BIND_ADDRESS_NO_PORT = 24


def bind_source(sock: socket.socket, local: SockAddr) -> None:
    """Let `sock` connect from the address `local`. Raises OSError, which names it.

    Its port 0 is chosen by connect(2), who knows the other end (Linux 4.2): bind(2) would take one
    that no other connection of that address has, and there are only some 28,000.
    """
    if local[1]:
        # The last connection from there may be in TIME-WAIT.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
    try:
        sock.bind(local)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OSError(error.errno, f"{reason} (from {local[0]} port {local[1]})") from None


def name_of_peer(sock: socket.socket, address: SockAddr) -> SockAddr:
    """The name of the peer that `sock` has connected to at `address`.

    Raises ConnectionRefusedError when it has connected to itself. That happens where no program
    listens at `address`, and the kernel has chosen that very port for our end: two ends that open
    at once are a connection, even if they are one (RFC 9293, 3.5), and it echoes whatever is sent.
    """
    try:
        peer = sock.getpeername()
    except OSError:
        # It was there, and is gone again: the next receive meets its reset, as at any other time.
        return readable_name(address)
    if sock.family != socket.AF_UNIX and peer == sock.getsockname():
        # Closed without a reset, it would keep the port from its server for a minute (TIME-WAIT).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        raise ConnectionRefusedError(
            errno.ECONNREFUSED, "Connection refused (nobody listens there: it met only itself)"
        )
    return readable_name(peer)


class SocketStream(Fields):
    """What every `Stream` over a socket does alike; `recv` and `send_all` are the engines' own."""

    vectored = False

    # Of an idle connection, most of the memory is its stream's: without a dict, 0.2 kB less.
    __slots__ = (
        "_engine",
        "_local",
        "_peer",
        "_sock",
        "_state",
    )

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr | None) -> None:
        """`peer` is None where `sock` has a method `peer` that tells it."""
        self._engine = engine
        self._sock = sock
        self._peer = peer
        if isinstance(peer, str | bytes):
            self._peer = readable_name(peer) or "unix"
        self._local: SockAddr | None = None
        self._state = StreamState()
        self._begin(sock.fileno(), FIRST_RECV_SIZE, MAX_RECV_SIZE, OPS_BEFORE_YIELD)

    @property
    def lost(self) -> OSError | None:
        return self._state.lost

    @property
    def end_received(self) -> bool:
        return self._state.end_received

    def has_come(self) -> bool:
        state = self._state
        return not (state.closed or state.end_received) and has_waiting(self._sock)

    @property
    def held(self) -> int:
        return self.unsent

    @property
    def receiving(self) -> bool:
        raise NotImplementedError

    @property
    def sending(self) -> bool:
        raise NotImplementedError

    @property
    def _in_send(self) -> bool:
        """Whether a task is within `send_all`, be it that it waits or not."""
        raise NotImplementedError

    def recv(self, max_bytes: int | None = None) -> Awaitable[bytes]:
        raise NotImplementedError

    @property
    def tls(self) -> None:
        return None

    @property
    def peer(self) -> SockAddr:
        if self._peer is None:
            self._peer = self._sock.peer()  # type: ignore[attr-defined]
        return self._peer

    @property
    def local(self) -> SockAddr:
        if self._local is None:
            if self._state.closed:
                raise StreamClosed("the local address was first asked for after the close")
            self._local = readable_name(self._sock.getsockname())
        return self._local

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        if self._state.closed or self._sock.family != socket.AF_UNIX or not _SO_PEERCRED:
            return None
        packed = self._sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _UCRED.size)
        return PeerCredentials(*_UCRED.unpack(packed))

    def set_keepalive(self, keepalive: Keepalive | None) -> None:
        set_keepalive(self._sock, keepalive)

    def progress(self) -> int:
        # What the peer's kernel has not acknowledged yet, or not taken from a Unix socket
        # (tcp(7), SIOCOUTQ): some engines report a send only when all of it is done.
        waiting = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, waiting)
        return self.bytes_sent - waiting[0]

    def set_recv_size(self, max_bytes: int) -> None:
        self._recv_size = self._max_recv_size = max_bytes

    def send_file(self, fd: int, offset: int, count: int) -> Awaitable[int] | None:
        return None

    def break_sending(self) -> None:
        self._state.give_up_send(None)

    async def send_eof(self) -> None:
        if self._may_end("send_eof"):
            self._end_sending()

    def _may_end(self, what: str) -> bool:
        """Whether the end of our stream is still to be sent. Raises what stands against it."""
        self._state.check_send(what)
        if self._state.end_sent:
            return False
        if self._in_send:
            raise second_sender()
        return True

    def _end_sending(self) -> None:
        # Before the deed: another thread may meet it at once.
        self._state.end_sending()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise self._explain(error) from None

    def end_receiving(self) -> None:
        if self._state.letting_go:
            # It hears nobody any more. To shut it down as well would take its time from a peer that
            # still has something to take: what that sends would be answered by a reset.
            return
        self._state.end_receiving()
        self._shut_down(socket.SHUT_RD)

    async def close(self) -> None:
        state = self._state
        if state.closed:
            return
        try:
            if not (state.end_received or state.lost or self.receiving):
                await self._let_go()
        finally:
            state.close()
            await self._release()

    async def _let_go(self) -> None:
        """End the stream without a reset.

        close(2) with unread data in the socket sends a reset at once, and throws away what is
        still on its way to the peer (RFC 2525, 2.17): the answer before the close would be lost.
        The same happens when data comes after the close. So when the peer has been speaking, and
        has not ended its stream, our end goes first, and what comes is thrown away until the peer
        has seen it, or has had its time.
        """
        self._state.let_go()
        if self._state.receiving_ended:
            await self._until_taken()
            return
        if not self._may_speak_on():
            return
        with contextlib.suppress(OSError, AnysockError):
            self._end_sending()
            async with self._engine.scope(LINGER_SECONDS):
                while await self.recv(MAX_RECV_SIZE):
                    pass

    def _may_speak_on(self) -> bool:
        """Whether the peer has been speaking, and has not ended its stream."""
        self._must_not_block()
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return bool(self.bytes_received)
        except OSError:  # it is gone
            return False

    def _must_not_block(self) -> None:
        """From now on, no receive sleeps in the system."""
        self._sock.setblocking(False)

    async def _until_taken(self) -> None:
        """The same where receiving was shut down: then the end of the peer's stream can't be seen,
        and once our stream has ended too, what the peer still sends is answered by a reset (Linux).
        That destroys what its system has not taken: so it has its time for that first."""
        self._must_not_block()
        pause = 0.001
        with contextlib.suppress(OSError, AnysockError):
            if self._sock.family != socket.AF_UNIX and self.progress() < self.bytes_sent:
                async with self._engine.scope(LINGER_SECONDS):
                    while self.progress() < self.bytes_sent:
                        self._throw_away()
                        await self._engine.sleep(pause)
                        pause = min(2 * pause, 0.05)
            self._throw_away()

    def _throw_away(self) -> None:
        """Take what has come. What is unread at the close would cause a reset."""
        with contextlib.suppress(BlockingIOError):
            while self._sock.recv(MAX_RECV_SIZE, socket.MSG_DONTWAIT):
                pass

    async def _release(self) -> None:
        """Close the socket, and whatever the engine has tied to it."""
        if (self.receiving or self.sending) and not self._state.aborted:
            # close(2) does not wake a thread that sleeps in recv(2) or send(2), and until that
            # returns the peer gets no end of stream.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def abort(self) -> None:
        if not self._state.abort():
            return
        # The reset leaves when the owner closes. Until then no task may sleep on the socket. Shut
        # down for receiving, it wakes a receiver, even in another thread's recv(2). Shut down for
        # sending, it would wake a sender; and a peer that reads all that was sent would be told
        # that the stream has ended well.
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._shut_down(socket.SHUT_RD)
        if self.sending:
            self._wake_sender()

    def _wake_sender(self) -> None:
        """Wake the task that waits to send, which then finds the stream aborted."""
        raise NotImplementedError

    def _shut_down(self, how: int) -> None:
        if not self._state.closed:
            # ENOTCONN: the peer has reset the connection, which is what we wanted of it.
            with contextlib.suppress(OSError):
                self._sock.shutdown(how)

    def _received_nothing(self) -> bytes:
        """recv(2) has returned ``b""``."""
        self._state.meet_end()
        return b""

    def _grow(self, asked: int) -> None:
        """A receive has filled the `asked` bytes: more may be waiting, so ask for more."""
        if asked == self._recv_size:
            self._recv_size = min(asked * RECV_GROWTH, self._max_recv_size)

    def _explain(self, error: OSError) -> Exception:
        """What to raise for an error of recv(2), send(2) or shutdown(2)."""
        return self._state.explain(error)


def second_receiver() -> StreamBusy:
    return StreamBusy("another task is already receiving here")


def second_sender() -> StreamBusy:
    return StreamBusy("another task is already sending here")


class AwaitingStream(SocketStream):
    """The base of those whose `recv` and `send_all` are coroutines of another library's loop: a
    flag for each says whether a task is within."""

    def __init__(self, engine: Engine, sock: socket.socket, peer: SockAddr) -> None:
        super().__init__(engine, sock, peer)
        self._receiving = False
        self._sending = False
        self._ops_left = OPS_BEFORE_YIELD

    @property
    def receiving(self) -> bool:
        return self._receiving

    @property
    def sending(self) -> bool:
        return self._sending

    @property
    def _in_send(self) -> bool:
        return self._sending

    async def _begin_receiving(self) -> None:
        """To be called first in `recv`, which resets `_receiving` at its end unless this raises."""
        self._state.check_receive()
        if self._receiving:
            raise second_receiver()
        self._receiving = True
        try:
            await self._let_others_run()
            self._state.check_receive()
        except BaseException:
            self._receiving = False
            raise

    async def _begin_sending(self) -> None:
        """To be called first in `send_all`, which resets `_sending` at its end unless this
        raises."""
        self._state.check_send()
        if self._sending:
            raise second_sender()
        self._sending = True
        try:
            await self._let_others_run()
            self._state.check_send()
        except BaseException:
            self._sending = False
            raise

    async def _let_others_run(self) -> None:
        """Yield to the other tasks when the budget is used up. Before an operation: what it has
        moved would be lost if its task were cancelled after it."""
        self._ops_left -= 1
        if self._ops_left < 0:
            self._ops_left = OPS_BEFORE_YIELD
            await self._engine.sleep(0)
