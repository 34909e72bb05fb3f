"""What can go wrong, by name. The lowest floor: everything may import this, it imports nothing.

A user of the command line sees none of these: ``cli/`` turns each `AnysockError`
into one clear line and an exit code. `Cancelled` is no error: it is how a task is
told to end, and so it passes through ``except Exception``.
"""

from __future__ import annotations


class AnysockError(Exception):
    """Base of every error that Anysock itself raises."""


class UsageError(AnysockError, ValueError):
    """What was asked for makes no sense: an unknown engine, a bad address, a bad option.

    The message says what is wrong and what to do. The command line exits with 2.
    """


class WrongType(UsageError, TypeError):
    """An argument has a type that can't be used there: a handler that is no ``async def``, a number
    for an address. The message says what is expected, and what was given."""


class StartError(AnysockError, OSError):
    """The server cannot start: an address in use, a port without the right to it.

    The message says what is wrong and what to do. The command line exits with 1.
    """


class LifespanFailed(AnysockError):
    """The lifespan of a server failed at its end, or while the server ran; all connections were
    drained. The message says how; `__cause__` is what was raised there.

    (One that fails at its start raises `StartError`.) The command line exits with 1.
    """


class ListenerClosed(AnysockError):
    """`Engine.accept` ends with this when its listener is closed. A normal end, not a fault."""


class NotServed(AnysockError, OSError):
    """A peer was accepted, and can't be served for want of a thread or of memory; it was reset."""


class StreamClosed(AnysockError):
    """The stream was used after it was closed on our side, or closed while a task waited on it."""


class StreamAborted(ConnectionAbortedError):
    """The connection was aborted on our side, by `Stream.abort`, while or before it was used."""


class StreamBusy(AnysockError):
    """Two tasks wait to receive (or two to send) on the same stream; the second gets this."""


class StreamBroken(AnysockError):
    """A `send_all` was cancelled when part of its data had been sent. Nothing more can be sent: the
    peer would take it for the rest of that data."""


def stream_closed(what: str) -> StreamClosed:
    """What the operation `what` raises on a stream that is closed; see `engines.base.Stream`."""
    return StreamClosed(f"{what}() on a stream that is closed")


def stream_broken() -> StreamBroken:
    """What a send raises once an earlier one was given up on its way."""
    return StreamBroken("an earlier send_all was cancelled when part of it had been sent")


class TlsError(AnysockError, ConnectionError):
    """TLS has ended the connection: the handshake failed, or what came is no TLS.

    The message says what was wrong, in words.
    """


class TlsTruncated(TlsError):
    """The peer's TCP stream ended without TLS's own end, close_notify: an attacker may have cut off
    the rest (RFC 8446, 6.1)."""


class TlsInjection(TlsError):
    """`Connection.start_tls` was called with bytes in the buffer that came in plain text: an
    attacker on the way may have put them there, to be taken for what came by TLS (CVE-2011-0411).
    They are thrown away, and nothing more can be received or sent."""


class QueueFull(AnysockError):
    """`Queue.put_nowait` found no room."""


class QueueEmpty(AnysockError):
    """`Queue.get_nowait` found no item."""


class QueueClosed(AnysockError):
    """The queue is closed: nothing can be put, or, from `get`, nothing more will come."""


class OutboxFull(AnysockError, ConnectionAbortedError):
    """A peer has read too slowly, so that its `Outbox` was full, and it was disconnected.

    `items` messages waited for it, with `bytes` bytes.
    """

    def __init__(self, items: int, bytes: int) -> None:
        super().__init__(f"it reads too slowly: {items} messages, {bytes} bytes, waited for it")
        self.items = items
        self.bytes = bytes


class MessageTooLong(AnysockError):
    """What was to be received outgrew its limit before its end was seen; nothing of it is taken.

    `limit` is the largest size allowed, in bytes, a separator not counted.
    """

    _what = "message"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{self._what} longer than {limit} bytes")
        self.limit = limit


class LineTooLong(MessageTooLong):
    """A line outgrew its limit before its end was seen.

    `limit` is the largest line allowed, in bytes, its line ending not counted.
    """

    _what = "line"


class FrameTooLong(MessageTooLong):
    """The prefix of a frame says that it is longer than its limit.

    `limit` is the largest frame allowed, in bytes, its prefix not counted; `size` is what the
    prefix says (of a varint, what is known of it by then).
    """

    _what = "frame"

    def __init__(self, limit: int, size: int) -> None:
        super().__init__(limit)
        self.size = size


class BadFrame(AnysockError):
    """The prefix of a frame is none that can be: a varint without an end."""


class EndOfStream(AnysockError, EOFError):
    """The peer ended the stream before `Connection.recv_exactly`, `recv_until` or `recv_frame` had
    all that it was asked for.

    `partial` holds what did arrive; `expected` is the number of bytes asked for, or None where
    that is not known.
    """

    def __init__(self, partial: bytes, expected: int | None) -> None:
        of = "" if expected is None else f" of {expected}"
        super().__init__(f"the stream ended after {len(partial)}{of} bytes")
        self.partial = partial
        self.expected = expected


#: What a peer may do wrong by what it sends, or not: a normal end of its own connection.
PEER_FAULTS = (EndOfStream, MessageTooLong, BadFrame)


class Cancelled(BaseException):
    """Raised at an ``await`` of a task that is being cancelled. Clean up, and let it pass.

    `scope` is the `timeout` that ended the task's wait, or None when the task itself
    was cancelled: so nested timeouts know exactly which of them fired.
    """

    def __init__(self, scope: object | None = None) -> None:
        super().__init__()
        self.scope = scope


def is_only(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether `error` is one of `kinds`, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_only(each, kinds) for each in error.exceptions)
    return isinstance(error, kinds)
