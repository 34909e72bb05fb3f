"""A client to talk to a server by hand, after telnet(1): what is typed goes out line by line,
what comes back is shown.

It runs under the `threads` engine: one thread sleeps until the server says something, another
until the user does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import termios
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from anysock.clients import MAX_DATAGRAM
from anysock.clients.line_editing import editor
from anysock.engines.base import Datagrams, SockAddr, Stream
from anysock.errors import StartError, StreamClosed
from anysock.net.addresses import Address, format_host
from anysock.net.printable import printable
from anysock.streams.connection import Connection
from anysock.tasks.connecting import connect_datagrams, connect_with
from anysock.tasks.runtime import run, sleep, spawn

if TYPE_CHECKING:
    import ssl

# ^], as in telnet(1): it is not typed by accident.
ESCAPE = b"\x1d"

_STDIN = 0
_PROMPT = "anysock> "

# How long the answers to the last datagrams may take: nothing shows that none will come.
_LAST_ANSWERS_SECONDS = 1.0
_MAX_READ = 65536

# Until there is room again for a datagram, on this side.
_NO_ROOM_SECONDS = 0.01


def talk(
    address: Address,
    line_ending: bytes = b"\r\n",
    tls: ssl.SSLContext | None = None,
    *,
    preface: Callable[[Stream], bytes] | None = None,
) -> None:
    """Connect to `address` and talk until the server, or the user, ends the conversation.

    What comes is written to standard output, everything else to standard error. At the end of
    standard input our end is half-closed, and what still comes is written.

    `tls` says which certificates to trust at a ``tls://`` address; see `anysock.connect`.
    ``preface(stream)`` is sent before anything else, also before a handshake of TLS.

    Raises `StartError` when no server answers there, and when the connection breaks.
    """
    if address.kind == "udp":
        run(_talk_udp, address, line_ending, engine="threads")
    else:
        run(_talk, address, line_ending, tls, preface, engine="threads")


async def _talk(
    address: Address,
    line_ending: bytes,
    tls: ssl.SSLContext | None,
    preface: Callable[[Stream], bytes] | None,
) -> None:
    host = address.host or address.path
    try:
        connection = await connect_with(address, trying=_say_trying, tls=tls, preface=preface)
    except OSError as error:
        if isinstance(error, StartError):
            raise
        reason = error.strerror or error
        where = f"{host}:{address.port}" if address.host else str(address)
        raise StartError(f"can't connect to {where}: {reason}") from None
    _say(f"Connected to {host}.")
    screen = _Screen()
    with screen.prepared():
        _say("Escape character is '^]'.")  # from now on
        user = _User(connection, line_ending, screen)
        spawn(user.speak(), name="user")
        try:
            async with connection:
                async for data in connection:
                    screen.write(data)
        except OSError as error:
            if error is not connection.stream.lost:
                raise
            reason = error.strerror or str(error)
            raise StartError(f"the connection to {host} is lost: {reason}") from None
        finally:
            screen.leave()
    _say("Connection closed." if user.quit else "Connection closed by foreign host.")


async def _talk_udp(address: Address, line_ending: bytes) -> None:
    """Each line is a datagram, and each datagram that comes is shown."""
    _say_trying((address.host or "this machine", address.port))
    try:
        datagrams = await connect_datagrams(address)
    except OSError as error:
        raise StartError(f"can't send to {address}: {error.strerror or error}") from None
    screen = _Screen()
    with screen.prepared():
        _say("Each line is a datagram. Escape character is '^]'.")
        user = _UdpUser(address, datagrams, line_ending, screen)
        spawn(user.speak(), name="user")
        try:
            while not (user.ended and user.missing <= 0):
                try:
                    data = (await datagrams.recv()).data
                except OSError as error:
                    user.tell(error)
                else:
                    user.answered += 1
                    screen.write(data)
        except StreamClosed:
            pass  # the user has ended it, or what was still missing has not come in time
        finally:
            screen.leave()
            datagrams.close()
    if not user.quit and user.missing > 0:
        raise StartError(user.trouble or f"no answer to {user.missing} of {user.sent} datagrams")


class _Screen:
    """Standard input and output; at a terminal, lines are edited, and have a history."""

    def __init__(self) -> None:
        self._editor = editor(ESCAPE, _say)
        self.editing = self._editor is not None

    def read(self) -> bytes:
        """What was typed, or piped: some lines, or pieces of them; ``b""`` at the end."""
        return os.read(_STDIN, _MAX_READ) if self._editor is None else self._editor.read()

    def ask(self) -> bytes:
        """What is typed at our own prompt; ``b""`` at the end."""
        if self._editor is not None:
            return self._editor.ask(_PROMPT)
        sys.stderr.write(_PROMPT)
        sys.stderr.flush()
        return os.read(_STDIN, _MAX_READ)

    def prepared(self) -> contextlib.AbstractContextManager[None]:
        """In the block, the terminal is as it has to be for what is typed."""
        return _terminal(editing=self.editing)

    def write(self, data: bytes) -> None:
        """Show what the other side has sent."""
        if self._editor is None:
            _write(data)
        else:
            self._editor.show(data)

    def say(self, text: str) -> None:
        """Say something of our own, while lines are read."""
        if self._editor is None:
            _say(text)
        else:
            self._editor.show(printable(text).encode(errors="replace") + b"\n")

    def leave(self) -> None:
        """Nothing more is read: what is told next begins a line."""
        if self._editor is not None:
            self._editor.leave()


class _User:
    """Sends what comes from standard input, a line at a time."""

    def __init__(self, connection: Connection, line_ending: bytes, screen: _Screen) -> None:
        self.quit = False
        self._screen = screen
        self._connection = connection
        self._line_ending = line_ending

    async def _send(self, lines: list[bytes]) -> None:
        await self._connection.send_all(b"".join(lines))

    async def _end(self) -> None:
        await self._connection.send_eof()

    def _quit(self) -> None:
        self._connection.stream.end_receiving()

    async def speak(self) -> None:
        # If the connection is lost, the receiver finds that out too, and reports it.
        with contextlib.suppress(OSError, StreamClosed):
            begun = b""
            while typed := self._screen.read():
                if ESCAPE in typed and os.isatty(_STDIN):
                    typed = typed.replace(ESCAPE, b"")
                    if self._wants_to_quit():
                        self.quit = True
                        self._quit()
                        return
                *lines, begun = (begun + typed).split(b"\n")
                if lines:
                    await self._send(
                        [line.removesuffix(b"\r") + self._line_ending for line in lines]
                    )
            if begun:
                await self._send([begun])
            await self._end()

    def _wants_to_quit(self) -> bool:
        """Ask for commands until one says quit or go on. As in telnet(1), none of them is sent to
        the server."""
        if not self._screen.editing:
            sys.stderr.write("\n")
        while True:
            typed = self._screen.ask()
            command = typed.replace(ESCAPE, b"").strip()
            if command in (b"c", b"q", b"close", b"quit") or not typed:  # ^D
                return True
            if not command:
                return False
            if command not in (b"?", b"h", b"help"):
                _say("?Invalid command")
            _say("quit (or close) ends the conversation; an empty line goes on with it.")


class _UdpUser(_User):
    """Sends each line as a datagram; after the last, waits a moment for what is missing."""

    def __init__(
        self, address: Address, datagrams: Datagrams, line_ending: bytes, screen: _Screen
    ) -> None:
        self.quit = False
        self._screen = screen
        #: Whether there will be no more.
        self.ended = False
        #: How many datagrams were to be sent, and how many have come back.
        self.sent = 0
        self.answered = 0
        #: What was wrong with the last that was not sent, or refused.
        self.trouble: str | None = None
        self._address = address
        self._datagrams = datagrams
        self._line_ending = line_ending

    @property
    def missing(self) -> int:
        """How many datagrams have not been answered."""
        return self.sent - self.answered

    def tell(self, error: OSError) -> None:
        """A datagram could not be sent, or was refused (ICMP)."""
        if error.errno == errno.ECONNREFUSED:
            self.trouble = f"nobody listens at {self._address}"
        elif error.errno == errno.EMSGSIZE:
            self.trouble = (
                f"a line is too long for a datagram, which has at most {MAX_DATAGRAM} bytes"
            )
        else:
            self.trouble = f"can't send to {self._address}: {error.strerror or error}"
        self._screen.say(self.trouble)

    async def _send(self, lines: list[bytes]) -> None:
        for line in lines:
            self.sent += 1
            # One that is not sent is no reason not to send those that follow.
            try:
                await self._send_one(line)
            except OSError as error:
                self.tell(error)

    async def _send_one(self, line: bytes) -> None:
        while True:
            try:
                return self._datagrams.send(line)
            except BlockingIOError:
                await sleep(_NO_ROOM_SECONDS)

    async def _end(self) -> None:
        self.ended = True
        if self.missing > 0:
            await sleep(_LAST_ANSWERS_SECONDS)
        self._datagrams.close()

    def _quit(self) -> None:
        self._datagrams.close()


@contextlib.contextmanager
def _terminal(*, editing: bool) -> Iterator[None]:
    """Let the terminal hand a line over at ^], too, and not only at Return (termios(3), VEOL).

    With `editing`, let it hand over all that is typed as it is: between two lines, when it is ours,
    it would else make of a ^D something that readline, whose it is then, does not know."""
    if not os.isatty(_STDIN):
        yield
        return
    before = termios.tcgetattr(_STDIN)
    changed = termios.tcgetattr(_STDIN)
    if editing:
        changed[3] &= ~termios.ICANON
        changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
    else:
        changed[6][termios.VEOL] = ESCAPE

    def restore_and_end(signum: int, _frame: object) -> None:
        termios.tcsetattr(_STDIN, termios.TCSANOW, before)
        os._exit(128 + signum)

    # The terminal outlives us.
    restored = {
        signum: signal.signal(signum, restore_and_end)
        for signum in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(signum) is not signal.SIG_IGN
    }
    termios.tcsetattr(_STDIN, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
        for signum, handler in restored.items():
            signal.signal(signum, handler)


def _say_trying(address: SockAddr) -> None:
    _say(f"Trying {format_host(address)}...")


def _say(text: str) -> None:
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
