"""What has become of a connection whose handler raised."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable

from anysock.engines.base import Task
from anysock.engines.stream_state import PEER_GONE
from anysock.errors import EndOfStream, LineTooLong, is_only
from anysock.streams.connection import Connection
from anysock.telemetry.events import CloseReason


def is_cancellation(
    task: Task[object], error: BaseException, cancellations: tuple[type[BaseException], ...]
) -> bool:
    """Whether `error` is no more than the cancellation of `task` that somebody has asked for. One
    that a handler raises by hand, or hands on from another task, is a failure like any other."""
    return task.cancelling and is_only(error, cancellations)


def may_be_an_interrupt(error: BaseException) -> bool:
    """Whether `error` may come from a Ctrl-C, and so is meant for the whole program: on the main
    thread, where neither the server nor the program's parent has seen to it that SIGINT raises
    nothing. (While a server catches it, there is no other origin than the handler.)"""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    )


def of_the_peer(
    connection: Connection, reason: CloseReason, error: BaseException
) -> tuple[CloseReason, OSError | None] | None:
    """Why the connection has ended, when what the handler raised says no more than that its peer
    is gone, or has done what the conversation can't go on with; None: the handler has failed.
    `reason` is why it would have ended, had the handler returned.

    A handler with a task group has several tasks that meet that, each with an error of its own.
    """
    lost = connection.stream.lost
    if not all(_is_of_the_peer(connection, lost, each) for each in _each_of(error)):
        return None
    if reason is not CloseReason.DONE:
        return reason, lost
    # The stream is as it should be, and what came on it is not.
    told = ConnectionError(str(connection.fault))
    is_long = isinstance(connection.fault, LineTooLong)
    return CloseReason.MAX_BYTES if is_long else CloseReason.LOST, told


def _each_of(error: BaseException) -> Iterable[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _each_of(each)
    else:
        yield error


def _is_of_the_peer(connection: Connection, lost: OSError | None, error: BaseException) -> bool:
    if isinstance(error, (EndOfStream, LineTooLong)):
        return error is connection.fault
    # Whoever goes on after a loss meets more of them, and may raise any. Who is gone will not ask
    # which it was; but what another connection has raised, while this one stands, is a failure.
    if lost is None:
        return False
    return isinstance(error, ConnectionError) or (
        isinstance(error, OSError) and (error is lost or error.errno in PEER_GONE)
    )
