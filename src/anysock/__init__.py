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

from anysock.engines.base import PeerCredentials, Scope, Task
from anysock.errors import (
    AnysockError,
    BadFrame,
    Cancelled,
    EndOfStream,
    FrameTooLong,
    LifespanFailed,
    LineTooLong,
    MessageTooLong,
    OutboxFull,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    StartError,
    StreamAborted,
    StreamBroken,
    StreamBusy,
    StreamClosed,
    TlsError,
    TlsInjection,
    TlsTruncated,
    UsageError,
    WrongType,
)
from anysock.handlers import Handler
from anysock.options.serve import ServeOptions
from anysock.server.server import Lifespan, Server
from anysock.streams.connection import Connection
from anysock.streams.current import current_connection
from anysock.tasks.broadcast import Broadcast
from anysock.tasks.connecting import connect
from anysock.tasks.groups import TaskGroup, task_group
from anysock.tasks.locks import Condition, Lock, Semaphore
from anysock.tasks.outbox import Outbox
from anysock.tasks.queues import Event, Queue
from anysock.tasks.relay import relay
from anysock.tasks.runtime import (
    move_on_after,
    now,
    observe,
    run,
    shielded,
    sleep,
    spawn,
    timeout,
    to_thread,
)
from anysock.telemetry.counters import Counters
from anysock.telemetry.events import CloseReason, EventGroup, Events
from anysock.telemetry.logs import FloodLimit, LogEvents
from anysock.traces.tracing import trace
from anysock.workers.serving import serve

__all__ = [
    "AnysockError",
    "BadFrame",
    "Broadcast",
    "Cancelled",
    "CloseReason",
    "Condition",
    "Connection",
    "Counters",
    "EndOfStream",
    "Event",
    "EventGroup",
    "Events",
    "FloodLimit",
    "FrameTooLong",
    "Handler",
    "Lifespan",
    "LifespanFailed",
    "LineTooLong",
    "Lock",
    "LogEvents",
    "MessageTooLong",
    "Outbox",
    "OutboxFull",
    "PeerCredentials",
    "Queue",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "Scope",
    "Semaphore",
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
    "TlsInjection",
    "TlsTruncated",
    "UsageError",
    "WrongType",
    "connect",
    "current_connection",
    "move_on_after",
    "now",
    "observe",
    "relay",
    "run",
    "serve",
    "shielded",
    "sleep",
    "spawn",
    "task_group",
    "timeout",
    "to_thread",
    "trace",
]
