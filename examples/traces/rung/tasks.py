"""The tasks of a program that is recorded: those of asyncio, and those of a loop of its own."""

from __future__ import annotations

import asyncio
import collections
import ctypes
import errno
import types
from typing import Any

import sockets
from recording import Worker, described, recording

_SLEEP, _SEND = 0, 26  # what a task of S9, and one of S15, may ask for
_ENTER = 426  # io_uring_enter(2)

#: By task of asyncio, or by coroutine.
_workers: dict[Any, Worker] = {}
_run = asyncio.Handle._run


def is_ready(task: Any) -> None:
    """It is among the tasks that can run now."""
    by = recording.running[-1].number if recording.running else None
    worker = _workers.get(task)
    if worker is None:
        if recording.over:  # what asyncio.run does after the program is its own affair
            return
        coroutine = task.get_coro() if isinstance(task, asyncio.Task) else task
        # (What closes an asynchronous generator is no coroutine, but a task may run it.)
        frame = getattr(coroutine, "cr_frame", None)
        given = frame.f_locals.values() if frame is not None else ()
        connections = [each.connection for each in given if isinstance(each, sockets.Socket)]
        connection = connections[0] if connections else None
        name = getattr(coroutine, "__name__", type(coroutine).__name__)
        if connection is not None:
            name = f"{connection.name}: {name}"
        _workers[task] = worker = Worker(recording, name, by)
        worker.works_for(connection)
    elif worker.waits:
        recording.tell("wake", task=worker.number, by=by)
        worker.waits = False


def begins(task: Any) -> None:
    """A step of it begins."""
    if task not in _workers:
        is_ready(task)
    if task in _workers:
        recording.step_begins(_workers[task])


def ends(task: Any) -> None:
    """Its step is over."""
    if task not in _workers:
        return
    worker = _workers[task]
    recording.running.remove(worker)
    how = _asyncio_waits(task) if isinstance(task, asyncio.Task) else _own_waits(task, worker)
    worker.ends(**how)
    if "end" in how:
        del _workers[task]
        if worker.name == "main":
            recording.over = True


def _asyncio_waits(task: Any) -> dict[str, Any]:
    if task.cancelled():
        return {"end": "cancelled"}
    if task.done():
        # Not exception(): that would count as having looked at it.
        error = task._exception
        return {"end": "failed", "error": described(error)} if error else {"end": "returned"}
    future = task._fut_waiter
    if future in _workers:
        return {"wait": "join", "on": _workers[future].number}
    # Who is called when a descriptor is ready has the future among its arguments.
    for key in task.get_loop()._selector.get_map().values():
        for handle, wait in zip(key.data, ("read", "write"), strict=True):
            if handle is not None and any(each is future for each in handle._args or ()):
                return {"wait": wait, "fd": key.fd}
    return {"wait": "event"} if future is not None else {"wait": "ready"}


def _own_waits(coroutine: Any, worker: Worker) -> dict[str, Any]:
    if coroutine.cr_frame is None:
        return {"end": "cancelled" if worker.cancelled else "returned"}
    asked = coroutine.cr_await.gi_frame.f_locals
    if "why" not in asked:  # S15
        return {"wait": "write" if asked["code"] == _SEND else "read", "fd": asked["fd"]}
    why, what = asked["why"], asked["what"]
    if why == _SLEEP:
        return {"wait": "sleep", "until": recording.now() + round(what * 1e9)}
    return {"wait": "read" if why == 1 else "write", "fd": what.fileno()}


class Ready(collections.deque):
    """The tasks that are ready, as a loop keeps them: asyncio's, and that of S9."""

    def append(self, each: Any) -> None:
        super().append(each)
        task = _task_of(each) if isinstance(each, asyncio.Handle) else each
        if isinstance(task, asyncio.Task | types.CoroutineType):
            is_ready(task)

    def __iadd__(self, others: Any) -> Any:
        for each in others:
            self.append(each)
        return self


def _task_of(handle: asyncio.Handle) -> Any:
    """The task whose step it is, as asyncio's own debug mode finds it."""
    found = getattr(handle._callback, "__self__", None)
    return found if isinstance(found, asyncio.Task) else None


def run_handle(handle: asyncio.Handle) -> None:
    """Stands in for asyncio.Handle._run."""
    task = _task_of(handle)
    if task is None:
        _run(handle)
        return
    begins(task)
    try:
        _run(handle)
    finally:
        ends(task)


def profile(frame: Any, event: str, what: Any) -> None:
    """For sys.setprofile: a loop that resumes its tasks by itself calls their `send`."""
    if event in ("c_call", "c_return", "c_exception") and what.__name__ == "send":
        coroutine = what.__self__
        if isinstance(coroutine, types.CoroutineType):
            (begins if event == "c_call" else ends)(coroutine)
    elif event == "return" and frame.f_code.co_name == "completion":
        _completed(frame.f_locals, what)


def _completed(told: dict[str, Any], result: Any) -> None:
    """In S15 it is the kernel that receives and sends; here a task is told what has come of it."""
    worker = recording.running[-1]
    if told.get("result") == -errno.ECANCELED:
        worker.cancelled = True
    elif isinstance(result, int) and worker.serves is not None:
        if told["code"] == _SEND:
            worker.serves.sent += result
        else:
            worker.serves.got += result


class Library(ctypes.CDLL):
    """The C library, for S15: its system call that waits for completions is a turn of the loop."""

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)
        if name != "syscall":
            return function

        def syscall(number: Any, *arguments: Any) -> int:
            began = recording.now()
            result = int(function(number, *arguments))
            if number.value == _ENTER:
                recording.turn(recording.now() - began)
            return result

        setattr(self, name, syscall)  # as ctypes keeps it, for the next call
        return syscall
