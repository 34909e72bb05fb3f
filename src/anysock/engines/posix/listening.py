"""Sockets that listen: bound to addresses, or made from inherited descriptors."""

from __future__ import annotations

import array
import collections
import contextlib
import enum
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from anysock.engines.base import Binding, SockAddr
from anysock.errors import ListenerClosed
from anysock.machine.listening_socket import quick_to_accept

#: Sockets that were accepted, with the addresses of their peers.
Waiting: TypeAlias = collections.deque[tuple[socket.socket, SockAddr]]

# With these, accept(2) leaves the peers in the backlog, and succeeds once there is room again.
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Tries to find one port that is free on all addresses, when port 0 was asked for.
_PORT_TRIES = 10

# How long a server that may live on a Unix socket may take to answer, in seconds. Its kernel does.
_KNOCK_SECONDS = 1.0

# Of <asm-generic/socket.h>; the module `socket` has it not.
_SO_ATTACH_FILTER = 26


class _Filter:
    """A filter of packets, of the instructions `code, jump if true, jump if false, value`."""

    def __init__(self, *instructions: tuple[int, int, int, int]) -> None:
        self._code = array.array("B", b"".join(struct.pack("HBBI", *each) for each in instructions))
        #: A `struct sock_fprog`, for SO_ATTACH_FILTER (socket(7)).
        self.program = struct.pack("HP", len(instructions), self._code.buffer_info()[0])


# Of what comes to a TCP socket, all but who asks for a new connection: SYN without ACK, in the byte
# of flags of the TCP header (RFC 9293, 3.1). What belongs to a handshake that has begun may pass.
_NO_SYN = _Filter(
    (0x30, 0, 0, 13),  # load byte 13
    (0x54, 0, 0, 0x12),  # of it, SYN and ACK
    (0x15, 0, 1, 0x02),  # is it SYN alone?
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # all of it may pass
)


class Backlog(enum.Enum):
    """What becomes of the peers that wait in the backlog when a listener closes."""

    #: They are accepted, and served.
    SERVE = enum.auto()
    #: They stay there, for the processes that listen on the same socket.
    LEAVE = enum.auto()
    #: The close resets them.
    RESET = enum.auto()


class ListeningSocket:
    """A non-blocking socket that listens, and what is to be done when it stops."""

    def __init__(self, sock: socket.socket, binding: Binding) -> None:
        self.sock = sock = quick_to_accept(sock)
        self.binding = binding
        self.address: SockAddr = readable_name(sock.getsockname())
        #: Whether other processes may listen on it, too: then what waits in its backlog is theirs.
        self.shared = binding.fd is not None
        self.backlog = Backlog.LEAVE if self.shared else Backlog.SERVE
        #: Why `accept_waiting` could not accept all peers; the others wait on, past `close`.
        self.shortage: OSError | None = None
        self._file = None if self.shared else _identity(self.address)

    def serve_backlog(self) -> None:
        """Let `accept_waiting` accept the peers on a shared socket, too."""
        if self.backlog is Backlog.LEAVE:
            self.backlog = Backlog.SERVE

    def close(self) -> None:
        """Stop listening. With a `shortage`, the socket stays open, since closing it would reset
        the peers that wait: try `accept_waiting` again, or call `reset_backlog`."""
        # By now the file may be another server's, which has replaced us. (While the socket is open,
        # no other file has its number.)
        if self._file is not None and _identity(self.address) == self._file:
            with contextlib.suppress(OSError):
                os.unlink(str(self.address))
        self._file = None
        if self.shortage is None:
            self.sock.close()

    def reset_backlog(self) -> None:
        """Close the socket in spite of a `shortage`."""
        if self.shortage is not None:
            self.shortage = None
            self.close()

    def let_in_no_other(self) -> None:
        """From now on nobody comes into the backlog, so that it can be emptied and the socket be
        closed: who came in between would be connected, and then reset by the close.

        On Linux, and unless other processes listen on the socket, too. Who tries over TCP is told
        nothing: a client's kernel tries again after a second, and is refused, or finds who listens
        there by then."""
        if self.shared or sys.platform != "linux":
            return
        with contextlib.suppress(OSError):
            if self.sock.family == socket.AF_UNIX:
                # connect(2) is refused, and who waits can be accepted.
                self.sock.shutdown(socket.SHUT_RD)
            else:
                self.sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _NO_SYN.program)

    def _accept_all(self, waiting: Waiting) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(self.sock.accept())

    def accept_waiting(self) -> Waiting:
        """Accept all peers that wait in the backlog, if they are to be served, and no later one."""
        waiting: Waiting = collections.deque()
        self.shortage = None
        if self.backlog is not Backlog.SERVE:
            return waiting
        try:
            self._accept_all(waiting)
            self.let_in_no_other()
            self._accept_all(waiting)  # who has come meanwhile
        except OSError as error:
            # The rest can't be accepted. (Where there is no descriptor, accept(2) says so before it
            # looks for a peer.)
            if error.errno in _SHORTAGES and has_waiting(self.sock):
                self.shortage = error
                # From here on the kernel lets in no other peer (listen(2)).
                with contextlib.suppress(OSError):
                    self.sock.listen(0)
        return waiting

    def accept_rest(self) -> Waiting:
        """After `close`: the peers that a `shortage` has kept waiting. Raises OSError while it
        lasts."""
        if self.shortage is None:
            return collections.deque()
        waiting = self.accept_waiting()
        if self.shortage is None:
            self.close()
        elif not waiting:
            raise self.shortage
        return waiting

    def shut_down(self) -> bool:
        """Stop listening while a task still waits for the socket; false where that does not wake
        the task.

        A shared socket is not shut down, as that would stop the other processes, nor is one with a
        `shortage`, as that would reset its peers; and only Linux can do it at all. On a Unix socket
        accept(2) says EAGAIN for ever after it, while poll(2) says that it is worth a try.
        """
        if self.shared or self.shortage is not None:
            return False
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
        return self.sock.family != socket.AF_UNIX


def open_sockets(
    bindings: Sequence[Binding], backlog: int, socket_buffer: int | None = None
) -> list[ListeningSocket]:
    """Non-blocking sockets that listen on all addresses of all `bindings`.

    With `socket_buffer`, SO_RCVBUF and SO_SNDBUF have that size, in bytes, for all connections.
    Raises OSError with `filename` set to the address that failed; then none is left open.
    """
    opened: list[ListeningSocket] = []
    try:
        for binding in bindings:
            opened += [
                ListeningSocket(sock, binding)
                for sock in (
                    _open_name(binding, backlog, socket_buffer)
                    if binding.fd is None
                    else [_adopt(binding.fd, binding.label)]
                )
            ]
    except BaseException:
        for listening in opened:
            listening.close()
        raise
    return opened


def _open_name(binding: Binding, backlog: int, socket_buffer: int | None) -> list[socket.socket]:
    """Sockets that listen on all addresses of one name, at one port."""
    for attempt in range(_PORT_TRIES):
        sockets: list[socket.socket] = []
        port = 0
        for family, address in binding.addresses:
            wanted = address
            if not isinstance(address, str):
                wanted = (address[0], address[1] or port, *address[2:])
            try:
                sockets.append(_open_socket(family, wanted, backlog, socket_buffer, binding.mode))
            except OSError as error:
                for sock in sockets:
                    sock.close()
                # Free on the first address, taken on this one: let the first have another.
                chosen_by_us = address != wanted
                if error.errno == errno.EADDRINUSE and chosen_by_us and attempt + 1 < _PORT_TRIES:
                    break
                error.filename = readable_name(wanted)
                raise
            port = sockets[-1].getsockname()[1]
        else:
            return sockets
    raise AssertionError("unreachable: the last attempt returns or raises")


def _open_socket(
    family: socket.AddressFamily,
    address: SockAddr,
    backlog: int,
    socket_buffer: int | None,
    mode: int | None = None,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            # Without it a restart is refused while connections of the last run are in TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # So that [::]:80 and 0.0.0.0:80 can be bound side by side.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        no_delay(sock)
        if socket_buffer is not None:
            # Before listen(2): the window that TCP announces is scaled by what there is then.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, socket_buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, socket_buffer)
        if isinstance(address, str):
            with _alone_in(address):
                _bind_unix(sock, address, mode)
                sock.listen(backlog)
        else:
            sock.bind(address)
            sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def _alone_in(path: str) -> Iterator[None]:
    """Within the block, no other process of ours binds in the folder of `path`. From bind(2) to
    listen(2) a socket looks like one that a dead server has left; and if two processes found it so,
    the slower one would remove the socket that the quicker one has put in its place."""
    if path.startswith("\0"):
        yield
        return
    folder = -1
    try:
        # Another user may hold the lock, or the folder may be unreadable: then go on without.
        with contextlib.suppress(OSError):
            folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
            for _ in range(100):
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.01)
        yield
    finally:
        if folder >= 0:
            os.close(folder)


def _bind_unix(sock: socket.socket, path: str, mode: int | None) -> None:
    """Bind a Unix socket. A file that a dead server has left is replaced; a live one is not.

    Raises OSError with EADDRINUSE when a server lives there, and with ENOTSOCK when the file is no
    socket, even when it is a link to one.
    """
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or path.startswith("\0"):
            raise
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK)) from None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knock:
            knock.settimeout(_KNOCK_SECONDS)
            try:
                knock.connect(path)
            except ConnectionRefusedError:
                pass  # no process has it open any more
            except OSError as found:
                if found.errno != errno.ENOENT:
                    raise error from None
            else:
                raise
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock.bind(path)
    if mode is not None and not path.startswith("\0"):
        # No client can connect before listen(2), so there is no moment of other permissions.
        os.chmod(path, mode)


def _adopt(fd: int, label: str) -> socket.socket:
    """The socket that is behind an inherited descriptor.

    Raises OSError, with `filename` set to `label`, when it is none, or does not listen.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), label) from None
    try:
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise OSError(errno.EAFNOSUPPORT, "it is neither TCP nor a Unix socket", label)
        if sock.type != socket.SOCK_STREAM:
            raise OSError(
                errno.ESOCKTNOSUPPORT, "no stream socket (in a .socket unit: ListenStream=)", label
            )
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(errno.EINVAL, "it does not listen (in a .socket unit: Accept=no)", label)
        no_delay(sock)
        sock.setblocking(False)
        # Child processes do not inherit it.
        sock.set_inheritable(False)
    except BaseException:
        # It is not ours to close: perhaps it is a descriptor of our own engine.
        sock.detach()
        raise
    return sock


def no_delay(sock: socket.socket) -> None:
    """Send small answers at once (tcp(7), TCP_NODELAY)."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def accepted(sock: socket.socket, *, blocking: bool) -> None:
    """Prepare a socket fresh from accept(2)."""
    sock.setblocking(blocking)
    if sys.platform != "linux":
        # Linux hands the listener's options down to what it accepts, and saves the call.
        no_delay(sock)


def has_waiting(sock: socket.socket) -> bool:
    """Whether `sock` is readable: a peer waits in its backlog, or something has come."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


class SocketListener:
    """A `Listener` over one socket. Each engine adds how `close` wakes an accept that waits."""

    def __init__(self, listening: ListeningSocket) -> None:
        self.listening = listening
        self.sock = listening.sock
        self.binding = listening.binding
        self.bindings = (listening.binding,)
        self.closed = False
        self.addresses: Sequence[SockAddr] = (listening.address,)
        self._waiting: Waiting = collections.deque()

    def has_waiting(self) -> bool:
        if self.closed:
            return bool(self._waiting) or self.listening.shortage is not None
        return has_waiting(self.sock)

    def serve_backlog(self) -> None:
        self.listening.serve_backlog()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._waiting = self.listening.accept_waiting()
            self.listening.close()

    def reset_backlog(self) -> None:
        self.listening.reset_backlog()

    def next_waiting(self) -> tuple[socket.socket, SockAddr]:
        """The next peer of those that waited when the listener was closed."""
        if not self._waiting:
            self._waiting = self.listening.accept_rest()
        if not self._waiting:
            raise ListenerClosed
        return self._waiting.popleft()


def readable_name(name: SockAddr | bytes) -> SockAddr:
    """An address, as getsockname(2) gives it, with nothing in it that can't be shown: an abstract
    Unix socket (unix(7)) begins with ``@`` instead of a NUL."""
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return name.replace("\0", "@") if isinstance(name, str) else name


def _identity(address: SockAddr) -> tuple[int, int] | None:
    """Which file a Unix socket is; None where there is none."""
    if isinstance(address, str) and not address.startswith("@"):
        with contextlib.suppress(OSError):
            found = os.stat(address)
            return found.st_dev, found.st_ino
    return None
