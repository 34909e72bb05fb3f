"""A worker, as the supervisor sees it: the process, and what is known of it."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from anysock.errors import UsageError
from anysock.metrics import Snapshot
from anysock.workers.control import ToWorker, pair
from anysock.workers.worker import Job


class WorkerProcess:
    """A worker that was started."""

    def __init__(self, process: subprocess.Popen[bytes], control: ToWorker, line: int) -> None:
        self.process = process
        self.pid = process.pid
        self.control = control
        self.line = line
        self.started_at = time.monotonic()
        self.ready = False
        #: Told to end, for good: it is not replaced.
        self.ending = False
        #: Why it could not begin, and the exit code that this means.
        self.failure: tuple[str, int] | None = None
        self.aborted = 0
        #: What it has done, when it was last asked.
        self.figures: Snapshot = {}
        #: The one that it will replace once it is ready.
        self.replaces: WorkerProcess | None = None

    @classmethod
    def start(
        cls, server: tuple[Any, Any, Any], inherited: Iterable[int], **job: Any
    ) -> WorkerProcess:
        """Start a worker that serves ``handler, options, events``, with those descriptors; `job`
        are further fields of `Job`."""
        handler, _, events = server
        control, theirs = pair()
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
        module, path = _main_of(handler, events)
        control.send_job(
            Job(
                server=pickle.dumps(server),
                main_module=module,
                main_path=path,
                import_path=sys.path,
                **job,
            )
        )
        return cls(process, control, job["line"])

    @property
    def how_it_ended(self) -> str:
        """In words, for one that has ended."""
        code = self.process.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with code {code}"


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
