"""What has become of a connection when its handler has returned, or raised."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable

from anysock.engines.base import Task
from anysock.engines.stream_state import PEER_GONE
from anysock.errors import PEER_FAULTS, EndOfStream, MessageTooLong, StreamAborted, is_only
from anysock.streams.connection import Connection
from anysock.streams.limiting import TooManyBytes
from anysock.telemetry.events import CloseReason


def how_it_ended(connection: Connection) -> CloseReason:
    """Why a connection has ended that its handler has let end, and not the server."""
    if connection.overrun is not None:
        return CloseReason.OUTBOX_FULL
    # A handler may have met the loss of the peer, and kept it to itself.
    lost = connection.stream.lost
    if lost is None:
        # (A lost connection can't be aborted any more, though a handler may well try.)
        if connection.aborted:
            return CloseReason.ABORTED
        # A handler that has not read knows nothing of its peer, which may well be there, and about
        # to speak.
        if not _has_moved(connection) and connection.stream.end_received:
            return CloseReason.NO_DATA
        return CloseReason.DONE
    return _how_it_was_lost(connection, lost)


def _how_it_was_lost(connection: Connection, lost: OSError) -> CloseReason:
    if isinstance(lost, TooManyBytes):
        return CloseReason.MAX_BYTES
    if isinstance(lost, StreamAborted):
        return CloseReason.ABORTED
    tls = connection.tls
    if tls is not None and not tls.established:
        return CloseReason.HANDSHAKE
    # Health checks reset, too: that leaves nothing in TIME_WAIT.
    if not _has_moved(connection) and isinstance(lost, ConnectionResetError):
        return CloseReason.NO_DATA
    return CloseReason.LOST


def _has_moved(connection: Connection) -> bool:
    """Whether a byte has come, or gone."""
    return bool(connection.bytes_received or connection.bytes_sent)


def is_cancellation(
    task: Task[object], error: BaseException, cancellations: tuple[type[BaseException], ...]
) -> bool:
    """Whether `error` is no more than the cancellation of `task` that somebody has asked for. One
    that a handler raises by hand, or hands on from another task, is a failure like any other."""
    return task.cancelling and is_only(error, cancellations)


def may_be_an_interrupt(error: BaseException) -> bool:
    """Whether `error` may come from a Ctrl-C, and so is meant for the whole program: it is raised
    on the main thread, and the program's parent did not have SIGINT ignored. (While a server
    catches SIGINT, only the handler can have raised it.)"""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    )


def of_the_peer(
    connection: Connection, reason: CloseReason, error: BaseException
) -> tuple[CloseReason, OSError | None] | None:
    """Why the connection has ended, when `error`, which the handler raised, says no more than that
    the peer is gone, or sent what makes the conversation impossible; None: the handler has failed.
    `reason` is why the connection would have ended, had the handler returned.

    A handler with a task group has several tasks that meet the loss, each with an error of its own.
    """
    lost = connection.stream.lost
    if not all(_is_of_the_peer(connection, lost, each) for each in _each_of(error)):
        return None
    if reason is not CloseReason.DONE:
        return reason, lost
    if isinstance(connection.fault, EndOfStream) and not connection.fault.partial:
        return CloseReason.DONE, None  # it has ended between two messages
    # Nothing is wrong with the stream, but with what came on it.
    told = ConnectionError(str(connection.fault))
    is_long = isinstance(connection.fault, MessageTooLong)
    return CloseReason.MAX_BYTES if is_long else CloseReason.LOST, told


def _each_of(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _each_of(each)
    else:
        yield error


def _is_of_the_peer(connection: Connection, lost: OSError | None, error: BaseException) -> bool:
    if isinstance(error, PEER_FAULTS):
        return error is connection.fault
    # A handler that goes on after a loss meets more errors, and may raise any of them: which one
    # makes no difference. But an error of another connection, while this one stands, is a failure.
    if lost is None:
        return False
    return isinstance(error, ConnectionError) or (
        isinstance(error, OSError) and (error is lost or error.errno in PEER_GONE)
    )
