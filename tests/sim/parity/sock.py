"""A socket under test, each call of which is told."""

from __future__ import annotations

import array
import errno
import socket
import struct
import termios
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.parity.net import Net

IN, OUT, ERR, HUP, NVAL = 0x1, 0x4, 0x8, 0x10, 0x20
_MASK_NAMES = {IN: "IN", OUT: "OUT", ERR: "ERR", HUP: "HUP", NVAL: "NVAL"}

LINGER_RESET = struct.pack("ii", 1, 0)
HERE = "127.0.0.1"

# What `fill` sends. Its length is a prime, so that no piece that is lost leaves it as it was.
_PATTERN = bytes(position % 251 for position in range(251 * 300))


class Sock:
    """A socket under test. Each of its calls is told, under its name, with what came of it."""

    def __init__(self, net: Net, name: str, raw: Any) -> None:
        self.net = net
        self.name = name
        self.raw = raw
        #: Bytes that `fill` has sent, and `drain` received.
        self.filled = self.drained = 0

    def call(self, what: str, func: Callable[..., Any], *args: Any) -> Any:
        return self.net.call(f"{self.name}: {what}", func, *args)

    def tell(self, what: str, found: object) -> None:
        self.net.tell(f"{self.name}: {what}", found)

    # -- connecting ------------------------------------------------------------------------------

    def bind(self, to: Any = (HERE, 0)) -> Any:
        return self.call("bind", self.raw.bind, _address(to))

    def listen(self, backlog: int = 16) -> Any:
        return self.call(f"listen({backlog})", self.raw.listen, backlog)

    def connect(self, to: Any) -> Any:
        return self.call("connect", self._connect, _address(to))

    def _connect(self, address: Any) -> str:
        code = self.raw.connect_ex(address)
        return errno.errorcode[code] if code else "connected"

    def accept(self, name: str = "server") -> Sock | None:
        """The connection that is accepted, if there is one."""

        def accept() -> Any:
            raw, peer = self.raw.accept()
            accepted.append(raw)
            return self.net.named(peer)

        accepted: list[Any] = []
        self.call("accept", accept)
        if not accepted:
            return None
        accepted[0].setblocking(False)
        return self.net.add(name, accepted[0])

    def getsockname(self) -> Any:
        return self.call("getsockname", self.raw.getsockname)

    def getpeername(self) -> Any:
        return self.call("getpeername", self.raw.getpeername)

    # -- data ------------------------------------------------------------------------------------

    def write(self, data: bytes) -> Any:
        return self.call(f"write({_short(data)})", self.net.machine.os.write, self._fd(), data)

    def writev(self, pieces: Sequence[bytes]) -> Any:
        what = f"writev({', '.join(map(_short, pieces))})"
        if len(pieces) > 5:
            what = f"writev({len(pieces)} pieces)"
        return self.call(what, self.net.machine.os.writev, self._fd(), pieces)

    def sendfile(self, fd: int, offset: int, count: int) -> Any:
        what = f"sendfile({offset}, {count})"
        return self.call(what, self.net.machine.os.sendfile, self._fd(), fd, offset, count)

    def read(self, size: int = 65536) -> Any:
        return self.call(f"read({size})", self.net.machine.os.read, self._fd(), size)

    def peek(self, size: int = 1) -> Any:
        return self.call(f"peek({size})", self.raw.recv, size, socket.MSG_PEEK)

    def fill(self) -> None:
        """Write until there is no more room, and none comes."""
        machine = self.net.machine
        write = machine.os.write
        blocked, found = False, "full"
        while True:
            at = self.filled % 251
            try:
                self.filled += write(self._fd(), _PATTERN[at : at + 32768])
                blocked = False
            except BlockingIOError:
                if blocked:
                    break
                blocked = True
                machine.until(lambda: machine.acknowledged(self.raw))
                self.net.settle()
            except OSError as error:
                found = errno.errorcode[error.errno or 0]
                break
        self.net.settle()
        self.tell("fill", found)

    def drain(self, sender: Sock) -> None:
        """Read all that `sender` has filled in, or as much as comes before an end or an error."""
        read = self.net.machine.os.read
        found: object = "all"
        while self.drained < sender.filled:
            try:
                data = read(self._fd(), 65536)
            except BlockingIOError:
                self.net.machine.wait(self.raw, IN)
                continue
            except OSError as error:
                found = errno.errorcode[error.errno or 0]
                break
            if not data:
                found = "end"
                break
            at = self.drained % 251
            if _repeated(at, len(data)) != data:
                found = "other bytes"
                break
            self.drained += len(data)
        self.net.settle()
        if found in ("end", "EPIPE", "ECONNRESET"):
            found = (found, self.drained == sender.filled)
        self.tell("drain", found)

    # -- ends ------------------------------------------------------------------------------------

    def shutdown(self, how: int = socket.SHUT_WR) -> Any:
        return self.call(f"shutdown({_HOW[how]})", self.raw.shutdown, how)

    def linger(self) -> None:
        """Let the close send a reset."""
        self.call("linger", self.raw.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)

    def close(self) -> Any:
        return self.call("close", self.raw.close)

    def reset(self) -> None:
        self.linger()
        self.close()

    # -- looking ---------------------------------------------------------------------------------

    def mask(self) -> int:
        """What poll(2) finds."""

        def look() -> str:
            found.append(self.ready())
            return _mask(found[0])

        found: list[int] = []
        self.call("poll", look)
        return found[0]

    def ready(self) -> int:
        if self.raw.fileno() < 0:
            return NVAL
        poll = self.net.machine.select.poll()
        poll.register(self.raw, IN | OUT)
        for _, mask in poll.poll(0):
            return int(mask)
        return 0

    def wait(self, mask: int) -> None:
        """Wait until poll(2) finds one of `mask`; tell what it finds."""
        self.net.machine.wait(self.raw, mask)
        self.mask()

    def error(self) -> Any:
        """SO_ERROR, which forgets it."""
        return self.call("SO_ERROR", self._error)

    def _error(self) -> str:
        code = self.raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.errorcode[code] if code else "none"

    def outq(self) -> Any:
        """What the peer has not acknowledged (TIOCOUTQ); it may take some time to do so."""

        def look() -> int:
            self.net.machine.until(lambda: self._outq() == 0)
            return self._outq()

        return self.call("TIOCOUTQ", look)

    def _outq(self) -> int:
        waiting = array.array("i", [0])
        self.net.machine.fcntl.ioctl(self._fd(), termios.TIOCOUTQ, waiting)
        return waiting[0]

    def outq_empty(self) -> Any:
        return self.call("TIOCOUTQ is 0", lambda: self._outq() == 0)

    def getsockopt(self, level: int, option: int, *size: int) -> Any:
        return self.call(
            f"getsockopt({level}, {option})", self.raw.getsockopt, level, option, *size
        )

    def setsockopt(self, level: int, option: int, value: Any) -> Any:
        what = f"setsockopt({level}, {option}, {value!r})"
        return self.call(what, self.raw.setsockopt, level, option, value)

    def small(self, size: int) -> None:
        """Buffers of `size`; nothing is told of it."""
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def after_all(self) -> None:
        """What there is to say when its connection is over, one way or the other."""
        self.mask()
        self.getpeername()
        self.read()
        self.read()
        self.write(b"late")
        self.write(b"later")
        self.read()
        self.error()
        self.mask()
        self.shutdown()

    def _fd(self) -> int:
        return int(self.raw.fileno())


_HOW = {socket.SHUT_RD: "RD", socket.SHUT_WR: "WR", socket.SHUT_RDWR: "RDWR"}


def _address(to: Any) -> Any:
    return to.raw.getsockname() if isinstance(to, Sock) else to


def _short(data: bytes) -> str:
    return repr(bytes(data)) if len(data) <= 20 else f"{len(data)} B"


def _mask(mask: int) -> str:
    return " ".join(name for bit, name in _MASK_NAMES.items() if mask & bit) or "nothing"


def _repeated(at: int, size: int) -> bytes:
    """`size` bytes of the endless pattern, from its position `at` (< 251) on."""
    return (_PATTERN * (1 + (at + size) // len(_PATTERN)))[at : at + size]
