"""A worker, as the supervisor sees it: the process, and what is known of it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from anysock.errors import UsageError
from anysock.telemetry.metrics import Snapshot
from anysock.workers.control import ToWorker, pair
from anysock.workers.worker import Job

#: What fails when a worker can't be started, by no fault of anybody here: no descriptor, process
#: (fork(2): EAGAIN) or memory is left, or the interpreter is not where it was.
NOT_STARTED = (OSError, MemoryError, subprocess.SubprocessError)


class WorkerProcess:
    """A worker that was started."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: ToWorker, slot: int, generation: int
    ) -> None:
        self.process = process
        self.pid = process.pid
        self.control = control
        #: Its index in the table of slots.
        self.slot = slot
        # What `anysock.workers.staffing.Member` says of these.
        self.generation = generation
        self.started_at = time.monotonic()
        self.ready = False
        self.ending = False
        #: Why it could not begin, and the exit code that this means.
        self.failure: tuple[str, int] | None = None
        self.aborted = 0
        #: What it has done, when it was last asked.
        self.figures: Snapshot = {}

    @classmethod
    def start(
        cls,
        server: tuple[Any, Any, Any, Any],
        inherited: Iterable[int],
        *,
        generation: int,
        **job: Any,
    ) -> WorkerProcess:
        """Start a worker that serves ``handler, lifespan, options, events``, with those
        descriptors; `job` are further fields of `Job`.

        Raises one of `NOT_STARTED` when that can't be done now; then nothing is left of it.
        """
        handler, lifespan, _, events = server
        module, path = _main_of(handler, lifespan, events)
        control, theirs = pair()
        try:
            with theirs:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        # The flags that we were started with, such as -X dev.
                        *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]
                        *("-m", "anysock.workers.worker", str(theirs.fileno())),
                    ],
                    pass_fds=[theirs.fileno(), *inherited],
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            control.sock.close()
            raise
        worker = cls(process, control, job["slot"], generation)
        try:
            control.send_job(
                Job(
                    server=pickle.dumps(server),
                    main_module=module,
                    main_path=path,
                    import_path=sys.path,
                    **job,
                )
            )
        except BaseException:
            worker.kill()
            raise
        return worker

    def kill(self) -> None:
        """End it at once, and wait until it has: nothing is left of it."""
        self.process.kill()
        self.process.wait()
        self.control.sock.close()

    @property
    def how_it_ended(self) -> str:
        """In words, for one that has ended."""
        code = self.process.returncode
        if code >= 0:
            return f"ended with code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal between the first and the last has no name
            return f"was killed by signal {-code}"


def cause_of(error: BaseException) -> str:
    """Why a worker could not be started, in words that are the same each time."""
    if isinstance(error, OSError) and error.errno:
        # Of the files that a start needs, the interpreter is the one that may be missing.
        where = f": {error.filename}" if error.filename else ""
        return f"{os.strerror(error.errno)}{where}"
    return str(error) or type(error).__name__


def _main_of(*things: object) -> tuple[str | None, str | None]:
    """The program that some of `things` are defined in, by module or by path, if one is."""
    if not any(getattr(thing, "__module__", None) == "__main__" for thing in things):
        return None, None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name, None
    path = getattr(main, "__file__", None)
    if path is None:
        raise UsageError("--workers: the handler must be in a file, so that the workers can run it")
    return None, path
