"""Anysock: an echo server, and the TCP server toolkit that it is made of.

A handler is written once, and runs under every I/O model:

>>> import anysock
>>> async def shout(connection: anysock.Connection) -> None:
...     async for line in connection.lines():
...         await connection.send_all(line.upper())
>>> anysock.serve(shout, bind="127.0.0.1:8000", engine="selector")  # doctest: +SKIP
"""

from __future__ import annotations

__version__ = "0.1.0"

from anysock.connection import Connection
from anysock.engines.base import Scope, Task
from anysock.errors import (
    AnysockError,
    Cancelled,
    EndOfStream,
    LineTooLong,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    StartError,
    StreamAborted,
    StreamBroken,
    StreamBusy,
    StreamClosed,
    TlsError,
    TlsTruncated,
    UsageError,
    WrongType,
)
from anysock.events import CloseReason, Counters, Events
from anysock.groups import TaskGroup, task_group
from anysock.handlers import Handler
from anysock.options import ServeOptions
from anysock.queues import Event, Queue
from anysock.runtime import (
    connect,
    move_on_after,
    observe,
    run,
    sleep,
    spawn,
    timeout,
    to_thread,
)
from anysock.server import Server
from anysock.serving import serve

__all__ = [
    "AnysockError",
    "Cancelled",
    "CloseReason",
    "Connection",
    "Counters",
    "EndOfStream",
    "Event",
    "Events",
    "Handler",
    "LineTooLong",
    "Queue",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "Scope",
    "ServeOptions",
    "Server",
    "StartError",
    "StreamAborted",
    "StreamBroken",
    "StreamBusy",
    "StreamClosed",
    "Task",
    "TaskGroup",
    "TlsError",
    "TlsTruncated",
    "UsageError",
    "WrongType",
    "connect",
    "move_on_after",
    "observe",
    "run",
    "serve",
    "sleep",
    "spawn",
    "task_group",
    "timeout",
    "to_thread",
]
