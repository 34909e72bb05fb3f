"""Sockets and selectors of a program that is recorded: they do what they always do, and tell."""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
from typing import Any

from recording import Connection, recording

plain = socket.socket

_WANTS = {1: "r", 2: "w", 3: "rw"}


class Socket(plain):
    """A socket that listens, or that was accepted, tells what is done with it; all others don't."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None):
        super().__init__(family, type, proto, fileno)
        self.listens = False
        self.connection: Connection | None = None
        # accept() hands out its descriptor so; and a program that has one from elsewhere.
        if fileno is not None and self.family in (socket.AF_INET, socket.AF_INET6):
            host, port, *_ = self.getpeername()
            name = recording.names.get(port, str(port))
            self.connection = Connection(name)
            recording.descriptors.add(self.fileno())
            peer = f"{host}:{port}"
            recording.tell("accept", conn=name, peer=peer)
            recording.tell("open", conn=name, peer=peer, fd=self.fileno())

    def listen(self, *backlog: int) -> None:
        super().listen(*backlog)
        self.listens = True
        recording.descriptors.add(self.fileno())
        recording.begin()
        host, port, *_ = self.getsockname()
        recording.tell("mark", what="listens", text=f"{host}:{port}, descriptor {self.fileno()}")

    def accept(self) -> Any:
        return self._call("read", super().accept)

    def recv(self, *arguments: Any) -> bytes:
        data = self._call("read", super().recv, *arguments)
        if self.connection is not None:
            if not data and self.connection.ended:
                # It is at its end, as it was: who asks again and again learns nothing.
                self._asked_in_vain()
                return data
            self._works()
            self.connection.got += len(data)
            if not data:
                self.connection.ended = "done"
        return data

    def send(self, data: Any, *arguments: Any) -> int:
        sent = self._call("write", super().send, data, *arguments)
        self._sent(sent)
        return sent

    def sendall(self, data: Any, *arguments: Any) -> None:
        self._call("write", super().sendall, data, *arguments)
        self._sent(len(data))

    def shutdown(self, how: int) -> None:
        if self.connection is not None:  # (The client may see it before the call has returned.)
            recording.tell("mark", what="shuts down", text=f"our side of {self.connection.name}")
        super().shutdown(how)

    def close(self) -> None:
        open_until_now = self.fileno() >= 0
        super().close()
        connection = self.connection
        if connection is not None and open_until_now and self.fileno() < 0:
            moved = {"got": connection.got, "sent": connection.sent}
            cancelled = recording.worker is not None and recording.worker.cancelled
            failed = isinstance(sys.exc_info()[1], Exception) and not cancelled
            reason = "handler failed" if failed else connection.ended or "done"
            recording.tell("close", conn=connection.name, reason=reason, **moved)

    def _call(self, wait: str, function: Any, *arguments: Any) -> Any:
        worker = recording.worker
        told = self.listens or self.connection is not None
        at_end = self.connection is not None and self.connection.ended and wait == "read"
        sleeps = told and worker is not None and self.gettimeout() != 0 and not at_end
        asks = contextlib.nullcontext()
        try:
            with worker.waiting(wait=wait, fd=self.fileno()) if sleeps else asks:
                return function(*arguments)
        except BlockingIOError:
            if told:
                self._asked_in_vain()
            raise
        except ConnectionError:
            if self.connection is not None:
                self.connection.ended = "lost"
            raise

    def _sent(self, count: int) -> None:
        if self.connection is not None:
            self._works()
            self.connection.sent += count

    def _works(self) -> None:
        if (worker := recording.worker) is not None:
            worker.works_for(self.connection)

    def _asked_in_vain(self) -> None:
        if (worker := recording.worker) is not None:
            worker.asked_in_vain()


class Selector(selectors.DefaultSelector):
    """Tells what it is asked, for how long it has slept, and how many were ready."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self._asked(key.fd, events)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._asked(key.fd, 0)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        before = self.get_key(fileobj).events
        key = super().modify(fileobj, events, data)
        if key.events != before:
            self._asked(key.fd, events)
        return key

    def select(self, timeout: float | None = None) -> Any:
        began = recording.now()
        worker = recording.worker
        with worker.waiting(wait="poll") if worker is not None else contextlib.nullcontext():
            events = super().select(timeout)
            if not recording.over:
                recording.tell("turn", slept=recording.now() - began, events=len(events))
        return events

    def _asked(self, fd: int, events: int) -> None:
        # (asyncio has a pipe of its own there, by which another thread, or a signal, wakes it.)
        if fd in recording.descriptors:
            recording.tell("interest", fd=fd, wants=_WANTS.get(events, ""))
