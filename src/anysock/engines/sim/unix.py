"""Unix stream sockets (unix(7)): one `UnixSocket` is one end of a connection, or listens.

What is sent is in the other's buffer at once, and counts against the sender's until it is read.
"""

from __future__ import annotations

import collections
import errno
import os
import socket
import struct
from typing import Any, Final
from zlib import crc32

from anysock.engines.sim import accepting, end_faults
from anysock.engines.sim.fates import Fate
from anysock.engines.sim.files import bytes_of, readable
from anysock.engines.sim.host import Host
from anysock.engines.sim.memory import BUFFER, LARGEST, charge
from anysock.engines.sim.sockets import ERROR, HANGUP, READABLE, SOCKET, WRITABLE, SimSocket, fail

# As plain numbers: an operation with an enum is a call of Python code.
PEEK: Final = int(socket.MSG_PEEK)
RD: Final = int(socket.SHUT_RD)
WR: Final = int(socket.SHUT_WR)
BOTH: Final = int(socket.SHUT_RDWR)

_UCRED: Final = struct.Struct("iII")


class UnixSocket(SimSocket):
    """One end of a connection, or what listens."""

    kind = "unix"

    def __init__(self, host: Host) -> None:
        super().__init__(host, socket.AF_UNIX, socket.SOCK_STREAM)
        self.network = host.network
        self.sndbuf = self.rcvbuf = BUFFER
        #: What goes wrong with it; None: nothing.
        self.fate: Fate | None = None
        #: Its own name: empty, a path, or what begins with a NUL.
        self.name = b""
        #: The name of the other end; None before it is connected.
        self.peer: bytes | None = None
        #: The other end, while it is open.
        self.far: UnixSocket | None = None
        #: What listen(2) was told; None: it does not listen.
        self.backlog: int | None = None
        self.waiting: collections.deque[UnixSocket] = collections.deque()
        self.shut_read = self.shut_write = False
        # What has come, and was not read: the rest of each piece, and the memory that it takes.
        self._in: collections.deque[tuple[memoryview, int]] = collections.deque()
        # The memory of what was sent, and is not read yet.
        self._sent = 0
        self._error = 0

    # -- names -----------------------------------------------------------------------------------

    def getsockname(self) -> str | bytes:
        self.check_open()
        return readable(self.name)

    def getpeername(self) -> str | bytes:
        self.check_open()
        if self.peer is None:
            fail(errno.ENOTCONN)
        return readable(self.peer)

    def bind(self, address: str | bytes) -> None:
        self.check_open()
        name = bytes_of(address)
        if self.name:
            fail(errno.EINVAL)
        if not name:
            name = self._free_name()
        if name[0]:
            self.host.files.bind(os.fsdecode(name), self)
        elif self.host.bound.setdefault((self.kind, name), self) is not self:
            fail(errno.EADDRINUSE)
        self.name = name

    def _free_name(self) -> bytes:
        """A name of five digits, for what does not care."""
        number = 1
        while (self.kind, b"\0%05x" % number) in self.host.bound:
            number += 1
        return b"\0%05x" % number

    def _unbind(self) -> None:
        # A file stays.
        if self.name[:1] == b"\0" and self.host.bound.get((self.kind, self.name)) is self:
            del self.host.bound[self.kind, self.name]

    # -- listening -------------------------------------------------------------------------------

    def listen(self, backlog: int = 128) -> None:
        self.check_open()
        if not self.name or self.peer is not None:
            fail(errno.EINVAL)
        self.backlog = backlog

    def accept(self) -> tuple[UnixSocket, str | bytes]:
        child = accepting.accept(self, listens=self.backlog is not None)
        assert child.peer is not None
        return child, readable(child.peer)

    # -- connecting ------------------------------------------------------------------------------

    def connect(self, address: str | bytes) -> None:
        code = self.connect_ex(address)
        if code:
            fail(code)

    def connect_ex(self, address: str | bytes) -> int:
        self.check_open()
        name = bytes_of(address)
        try:
            listener = self._listener(name)
            self._check_connect(listener)
        except OSError as error:
            return error.errno or 0
        child = UnixSocket(self.host)
        child.name = listener.name
        child.sndbuf = listener.sndbuf
        if self.fate is not None:
            end_faults.afflict(child, f"{self.fate.subject[:-1]}<", connects=False)
        join(self, child)
        listener.waiting.append(child)
        self.network.note(self.host.name, "connected", os.fsdecode(name))
        listener.changed()
        return 0

    def _listener(self, name: bytes) -> UnixSocket:
        if name[:1] == b"\0":
            found = self.host.bound.get((self.kind, name))
        else:
            found = self.host.files.find(os.fsdecode(name)).sock
        if found is None or found.fd < 0 or found.backlog is None or found.shut_read:
            fail(errno.ECONNREFUSED)
        listener: UnixSocket = found
        return listener

    def _check_connect(self, listener: UnixSocket) -> None:
        assert listener.backlog is not None
        if len(listener.waiting) > listener.backlog:
            fail(errno.EAGAIN)
        if self.peer is not None:
            fail(errno.EISCONN)
        if self.backlog is not None:
            fail(errno.EINVAL)
        if self.network.faults is not None:
            end_faults.afflict(self, f"{self.host.name}.{self.host.connects}>", connects=True)
            self.host.connects += 1
            if self.fate is not None and end_faults.refuses(self.fate):
                fail(errno.ECONNREFUSED)
            if self.fate is not None and end_faults.drops_syn(self.fate):
                fail(errno.EAGAIN)

    # -- receiving -------------------------------------------------------------------------------

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.check_open()
        if self.peer is None:
            fail(errno.EINVAL)
        if not size:
            return b""
        if self._in:
            if self.fate is not None and self.fate.short is not None and not flags:
                size = self.fate.short.cut(min(size, sum(len(data) for data, _ in self._in)))
            return self._take(size, peek=bool(flags & PEEK))
        if self._error:
            fail(self.take_error())
        if self.shut_read:
            return b""
        return fail(errno.EAGAIN)

    def _take(self, size: int, *, peek: bool) -> bytes:
        pieces, left, freed = [], size, 0
        for data, _ in self._in:
            pieces.append(data[:left])
            left -= len(pieces[-1])
            if not left:
                break
        found = b"".join(pieces)
        if not peek:
            left = len(found)
            while left:
                data, taken = self._in[0]
                if len(data) > left:
                    self._in[0] = data[left:], taken
                    break
                self._in.popleft()
                freed += taken
                left -= len(data)
            if freed and self.far is not None:
                self.far.was_read(freed)
        return found

    def was_read(self, freed: int) -> None:
        """The other end has read what took so much memory."""
        was_full = not self._writable()
        self._sent -= freed
        if was_full:
            self.changed()

    # -- sending ---------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0) -> int:
        self.check_open()
        if self.peer is None:
            fail(errno.ENOTCONN)
        if self.shut_write:
            fail(errno.EPIPE)
        view = memoryview(bytes(data))
        if self.fate is not None and self.fate.partial is not None and view and self._may_send():
            view = view[: self.fate.partial.cut(len(view))]
        sent = 0
        while sent < len(view):
            if self._error and not sent:
                fail(self.take_error())
            if not self._may_send():
                if sent:
                    break
                fail(errno.EAGAIN)
            if self.far is None or self.far.shut_read:
                fail(errno.EPIPE)
            size = min(len(view) - sent, (self.sndbuf >> 1) - 64, LARGEST)
            taken = charge(size)
            self._sent += taken
            self.far.arrive(view[sent : sent + size], taken)
            sent += size
        if sent:
            network = self.network
            network.note(self.host.name, "data", self.host.name, sent)
            network.carried = crc32(view[:sent], network.carried)
        return sent

    def _may_send(self) -> bool:
        return self._sent < self.sndbuf

    def arrive(self, data: memoryview, taken: int) -> None:
        self._in.append((data, taken))
        self.changed()

    def unacknowledged(self) -> int:
        """What SIOCOUTQ says: here, it is the memory of what the other has not read."""
        if self.backlog is not None:
            fail(errno.EINVAL)
        return self._sent

    # -- the end ---------------------------------------------------------------------------------

    def shutdown(self, how: int) -> None:
        self.check_open()
        read, write = how in (RD, BOTH), how in (WR, BOTH)
        self.shut(read, write)
        if self.far is not None:
            self.far.shut(write, read)

    def shut(self, read: bool, write: bool) -> None:
        """From now on nothing more is received, or sent."""
        self.shut_read |= read
        self.shut_write |= write
        self.changed()

    def closed(self) -> None:
        unread = bool(self._in)
        self._in.clear()
        self._unbind()
        for child in self.waiting:
            child.give_up(unread=True)
        self.waiting.clear()
        self.give_up(unread=unread)

    def give_up(self, *, unread: bool) -> None:
        """Tell the other end that this one is gone; with `unread`, as a reset."""
        far, self.far = self.far, None
        if far is not None:
            if self.name or self.peer:  # or it is the pair that wakes a loop
                what = "rst" if unread else "fin"
                self.network.note(self.host.name, what, self.host.name, 0)
            far.gone(errno.ECONNRESET if unread else 0)

    def gone(self, code: int) -> None:
        """The other end is gone, and with it what it has not read."""
        self.far = None
        self._error = self._error or code
        self._sent = 0
        self.shut(True, True)

    def take_error(self) -> int:
        code, self._error = self._error, 0
        return code

    # -- options ---------------------------------------------------------------------------------

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        if level == SOCKET and option == socket.SO_PEERCRED:
            self.check_open()
            known = self.peer is not None
            ids = (os.getpid(), os.getuid(), os.getgid()) if known else (0, 2**32 - 1, 2**32 - 1)
            return _UCRED.pack(*ids)
        return super().getsockopt(level, option, size)

    def _option(self, level: int, option: int) -> int:
        if level == SOCKET and option == socket.SO_ACCEPTCONN:
            return int(self.backlog is not None)
        return super()._option(level, option)

    # -- readiness -------------------------------------------------------------------------------

    def _writable(self) -> bool:
        return self._sent << 2 <= self.sndbuf

    def mask(self) -> int:
        mask = 0
        if self._error:
            mask |= ERROR
        if self.shut_read:
            mask |= READABLE
            if self.shut_write:
                mask |= HANGUP
        if self._in or self.waiting:
            mask |= READABLE
        if self.backlog is not None:
            return mask
        if self.peer is None:
            mask |= HANGUP
        return mask | WRITABLE if self._writable() else mask


def join(one: UnixSocket, other: UnixSocket) -> None:
    """Let the two be a connection."""
    one.far, other.far = other, one
    one.peer, other.peer = other.name, one.name
