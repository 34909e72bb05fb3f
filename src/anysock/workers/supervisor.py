"""The supervisor: starts the workers, replaces those that die or are old, and ends them all."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import pickle
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from anysock import metrics, systemd
from anysock.admission import connections_that_fit
from anysock.engines.signals import is_ignored
from anysock.errors import AnysockError, StartError, UsageError
from anysock.events import Events
from anysock.handlers import Handler
from anysock.logs import last_words
from anysock.metrics import Snapshot
from anysock.net.addresses import Address
from anysock.net.certificates import server_context
from anysock.options import LEAST_UDP_RATE, ServeOptions
from anysock.units import format_duration
from anysock.workers.figures import Question
from anysock.workers.process import WorkerProcess
from anysock.workers.slots import MOST_WORKERS, SlotTable
from anysock.workers.sockets import SharedSockets

_log = logging.getLogger("anysock")
_ready_log = logging.getLogger("anysock.ready")

# A worker that dies sooner after its start than this, or before it serves, has not worked.
QUICK_SECONDS = 1.0

# After so many deaths of that kind in a row, the supervisor gives up.
MOST_QUICK_DEATHS = 5

# How long to wait before a worker is started again, at first and at most; it doubles each time.
FIRST_BACK_OFF = 0.1
MOST_BACK_OFF = 5.0

# What workers may take to end besides what they give their connections.
END_MARGIN_SECONDS = 3.0

TELL_SECONDS = 1.0

# What wakes the supervisor without a signal: no signal has that number.
_NO_SIGNAL = b"\0"

_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


class Supervisor:
    """Runs ``options.workers`` workers until SIGINT or SIGTERM."""

    def __init__(
        self, handler: Handler | str, options: ServeOptions, events: Events | None = None
    ) -> None:
        self._options = options
        self._handler = handler
        self._events = events
        self._wanted = options.workers
        self._workers: list[WorkerProcess] = []
        self._most = options.max_connections or connections_that_fit() * options.workers
        self._selector = selectors.DefaultSelector()
        self._next_number = 0
        self._quick_deaths = 0
        self._start_at: float | None = None
        self._to_replace: list[WorkerProcess] = []
        self._paused = False
        self._announced = False
        self._aborted = 0
        # The figures of the workers that have ended.
        self._gone: Snapshot = {}
        self._wakeup: socket.socket | None = None
        self._calls: collections.deque[Callable[[], object]] = collections.deque()
        self._questions: dict[int, Question] = {}
        self._next_question = 0
        # Once it ends: why, when that began, when the workers drain, and by when all must be over.
        self._failure: AnysockError | None = None
        self._ending_since: float | None = None
        self._drain_at = 0.0
        self._draining = False
        self._deadline = 0.0
        self._told_at = 0.0
        self._serving = ""
        self._reloading = False
        self._ping_at = 0.0

    # -- the life of a supervisor ----------------------------------------------------------------

    def run(self) -> int:
        """Serve; return how many connections had to be aborted.

        Raises `UsageError` and `StartError` when the workers can't begin, or die at once again and
        again.
        """
        self._check()
        self._table = SlotTable()
        # From here on nothing of it is in the environment, which the workers inherit.
        self._notifier = systemd.Notifier()
        try:
            self._sockets = SharedSockets(self._options)
        except BaseException:
            self._table.close()
            self._notifier.close()
            raise
        try:
            self._check_what_is_read_again()
            with self._signals(), self._admin():
                for _ in range(self._wanted):
                    self._start()
                while self._workers or self._ending_since is None:
                    self._turn()
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
                worker.control.sock.close()
            self._sockets.close()
            self._selector.close()
            self._table.close()
            self._notifier.close()
        if self._failure is not None:
            raise self._failure
        began = self._ending_since or 0.0
        self._tell_drained(time.monotonic() - began)
        return self._aborted

    def _check(self) -> None:
        if self._options.workers > MOST_WORKERS // 2:
            raise UsageError(f"--workers: at most {MOST_WORKERS // 2}")
        try:
            pickle.dumps((self._handler, self._events))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise UsageError(
                "--workers: the handler must be a function of a module, so that the workers can "
                f"import it ({error})"
            ) from None

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals become bytes on a socket, which the selector waits for."""
        hear, tell = socket.socketpair()
        hear.setblocking(False)
        tell.setblocking(False)
        # What is ignored stays so; but that a worker has died must be heard.
        wanted = [each for each in _SIGNALS if each == signal.SIGCHLD or not is_ignored(each)]
        previous = {signum: signal.signal(signum, lambda *_: None) for signum in wanted}
        self._wakeup = tell
        previous_fd = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
        self._selector.register(hear, selectors.EVENT_READ, None)
        try:
            yield
        finally:
            self._selector.unregister(hear)
            signal.set_wakeup_fd(previous_fd)
            for signum, handler in previous.items():
                signal.signal(signum, handler)
            hear.close()
            self._wakeup = None
            tell.close()

    def _admin(self) -> contextlib.AbstractContextManager[object]:
        """The admin endpoint of all workers, if there is to be one."""
        address = self._options.admin
        if not isinstance(address, Address):
            return contextlib.nullcontext()
        from anysock.admin import AdminEndpoint
        from anysock.workers.figures import FleetFigures

        return AdminEndpoint(address, FleetFigures(self))

    def _turn(self) -> None:
        self._wait_for_the_deaf()
        for key, _ in self._selector.select(self._patience_with_watchdog()):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    for signum in key.fileobj.recv(4096):  # type: ignore[union-attr]
                        self._heard(signum)
                while self._calls:
                    self._calls.popleft()()
            else:
                self._listen_to(key.data)
        self._bury_the_dead()
        now = time.monotonic()
        if self._ending_since is not None:
            self._end_turn(now)
        elif self._start_at is not None and now >= self._start_at:
            self._start_at = None
            while len(self._living()) < self._wanted:
                self._start()

    def _wait_for_the_deaf(self) -> None:
        """Besides the rest, wait until those can hear who were told more than they could take."""
        for worker in self._workers:
            key = self._selector.get_map().get(worker.control.sock)
            wanted = selectors.EVENT_READ
            if worker.control.has_more_to_say:
                wanted |= selectors.EVENT_WRITE
            if key is not None and key.events != wanted:
                self._selector.modify(key.fileobj, wanted, worker)

    def _patience_with_watchdog(self) -> float | None:
        """`_patience`; and tell systemd, when it is time to, that the supervisor lives. (A worker
        that is held up is not seen by that.)"""
        patience, every = self._patience(), self._notifier.watchdog_seconds
        if every is None:
            return patience
        now = time.monotonic()
        if now >= self._ping_at:
            self._notifier.watchdog()
            self._ping_at = now + every
        left = self._ping_at - now
        return left if patience is None else min(patience, left)

    def _patience(self) -> float | None:
        """How long nothing but news can make a difference, in seconds."""
        now = time.monotonic()
        if self._ending_since is None:
            return None if self._start_at is None else max(self._start_at - now, 0.0)
        if not self._draining:
            return max(self._drain_at - now, 0.0)
        return max(min(self._deadline, self._told_at + TELL_SECONDS) - now, 0.0)

    def _heard(self, signum: int) -> None:
        match signum:
            case signal.SIGINT | signal.SIGTERM:
                if self._ending_since is not None:
                    self._end_at_once(signum)
                self._end()
            case signal.SIGHUP if self._ending_since is None:
                self._replace_all()
            case signal.SIGTTIN if self._ending_since is None:
                self._wanted = min(self._wanted + 1, MOST_WORKERS // 2)
                _log.info("one worker more: %d", self._wanted)
                self._tell_all(do="udp", **self._udp_rates())
                self._start()
            case signal.SIGTTOU if self._ending_since is None and self._wanted > 1:
                self._wanted -= 1
                _log.info("one worker less: %d", self._wanted)
                self._retire(self._living()[-1])
                self._tell_all(do="udp", **self._udp_rates())

    # -- what the admin endpoint asks, from a thread of its own ------------------------------------

    def call(self, func: Callable[[], object]) -> None:
        """Let `func` be called on the supervisor's own thread. May be called from any thread."""
        self._calls.append(func)
        with contextlib.suppress(OSError):  # full: then it wakes anyway
            if self._wakeup is not None:
                self._wakeup.send(_NO_SIGNAL)

    def ask(self, question: Question) -> None:
        """Ask the workers something. To be called on the supervisor's own thread."""
        number = self._next_question
        self._next_question += 1
        self._questions = {
            number: question for number, question in self._questions.items() if question.missing
        } | {number: question}
        ready = [worker for worker in self._workers if worker.ready]
        question.missing = {worker.pid for worker in ready}
        question.gone = self._gone
        question.last = {worker.pid: worker.figures for worker in ready}
        for worker in ready:
            if not worker.control.hint(do=question.kind, id=number, most=question.most):
                question.leave_out(worker.pid)
        if not ready:
            question.done.set()

    def pause(self) -> None:
        """Let no worker accept anybody until `resume`. On the supervisor's own thread."""
        if not self._paused:
            self._paused = True
            _log.info("accepting is paused")
            self._tell_all(do="pause")

    def resume(self) -> None:
        """Let them accept again. On the supervisor's own thread."""
        if self._paused:
            self._paused = False
            _log.info("accepting is resumed")
            self._tell_all(do="resume")

    @property
    def unready(self) -> str | None:
        """Why we should be sent no more clients; None: we are ready for them."""
        if self._ending_since is not None:
            return "draining"
        if self._paused:
            return "accepting is paused"
        return None if any(worker.ready for worker in self._living()) else "no worker is ready"

    @property
    def most_connections(self) -> int:
        """The one number for all workers."""
        return self._most

    # -- workers ---------------------------------------------------------------------------------

    def _living(self) -> list[WorkerProcess]:
        """The workers that are to go on."""
        return [worker for worker in self._workers if not worker.ending]

    def _start(self, replaces: WorkerProcess | None = None) -> None:
        taken = {worker.line for worker in self._workers}
        line = next(line for line in range(MOST_WORKERS) if line not in taken)
        worker = WorkerProcess.start(
            (self._handler, self._worker_options(), self._events),
            [self._table.fd, *self._sockets.fds],
            line=line,
            table_fd=self._table.fd,
            most=self._most,
            figures=self._options.admin is not None,
        )
        worker.replaces = replaces
        self._workers.append(worker)
        self._selector.register(worker.control.sock, selectors.EVENT_READ, worker)

    def _worker_options(self) -> ServeOptions:
        """The options of a worker: it listens on what we have opened, and drains when we say."""
        options, udp_rates = self._options, self._udp_rates()
        return dataclasses.replace(
            options,
            bind=self._sockets.inherited,
            workers=1,
            admin=None,
            drain_delay=0,
            drain_timeout=options.drain_timeout - options.drain_delay,
            udp_rate=udp_rates["udp_rate"],
            udp_total_rate=udp_rates["udp_total_rate"],
        )

    def _udp_rates(self) -> dict[str, float]:
        """The share of a worker in the rates of UDP. Each counts for itself, and a source may be
        served by any: together, no more than the options say. (And none is less than an option may
        be.)"""
        return {
            name: max(getattr(self._options, name) / self._wanted, LEAST_UDP_RATE)
            for name in ("udp_rate", "udp_total_rate")
        }

    def _listen_to(self, worker: WorkerProcess) -> None:
        worker.control.go_on()
        messages = worker.control.receive()
        if messages is None:
            # It has closed its end: it is about to die, and SIGCHLD will tell.
            self._selector.unregister(worker.control.sock)
            return
        for message in messages:
            match message:
                case {"ready": True}:
                    self._is_ready(worker)
                case {"failed": str(text), "code": int(code)}:
                    worker.failure = (text, code)
                case {"drained": int(aborted), "figures": figures}:
                    worker.aborted = aborted
                    worker.figures = figures or worker.figures
                case {"answer": int(number), "value": value}:
                    if number in self._questions:
                        question = self._questions[number]
                        question.answer(worker.pid, value)
                        if question.kind == "figures":
                            worker.figures = value
                case {"freed": True}:
                    self._hint_at_room(besides=worker)

    def _tell_all(self, **words: Any) -> None:
        for worker in self._workers:
            if worker.ready:
                worker.control.tell(**words)

    def _hint_at_room(self, besides: WorkerProcess | None = None) -> None:
        """There may be room again. A worker that misses it looks for itself (`FULL_SECONDS`)."""
        for worker in self._workers:
            if worker is not besides and worker.ready:
                worker.control.hint(do="room")

    def _is_ready(self, worker: WorkerProcess) -> None:
        worker.ready = True
        # There may be more workers, or fewer, than when it was started.
        worker.control.tell(do="udp", **self._udp_rates())
        if self._paused:
            worker.control.tell(do="pause")
        if self._draining:
            worker.control.tell(do="end")
            return
        if worker.replaces is not None:
            _log.info("worker %d takes the place of %d", worker.pid, worker.replaces.pid)
            self._retire(worker.replaces)
            worker.replaces = None
            self._replace_next()
        elif not self._announced and all(each.ready for each in self._living()):
            self._announced = True
            self._announce()

    def _announce(self) -> None:
        addresses = self._sockets.addresses
        for address in addresses:
            _ready_log.info("listening on %s (%s)", address, self._options.engine)
        self._serving = f"listening on {', '.join(addresses)} ({self._options.engine})"
        self._notifier.ready(self._serving)
        _log.info(
            "%d workers: %s", len(self._workers), ", ".join(str(w.pid) for w in self._workers)
        )
        _log.info("at most %d connections, all workers together", self._most)

    def _retire(self, worker: WorkerProcess) -> None:
        worker.ending = True
        worker.control.tell(do="retire")

    def _replace_all(self) -> None:
        """SIGHUP: one by one, start a new worker, and when it is ready let the old one go."""
        self._reloading = True
        self._notifier.reloading()
        try:
            self._check_what_is_read_again()
        except AnysockError as error:
            _log.error("the workers stay as they are: %s", error)
            self._tell_reloaded(f"; not reloaded: {error}")
            return
        _log.info("replacing %d workers, one by one", len(self._living()))
        running = bool(self._to_replace) or any(worker.replaces for worker in self._workers)
        self._to_replace = [worker for worker in self._living() if worker.replaces is None]
        if not running:
            self._replace_next()

    def _check_what_is_read_again(self) -> None:
        """Raises `StartError` if new workers could not begin, for what they read anew."""
        options = self._options
        if options.tls_cert is not None:
            server_context(options.tls_cert, options.tls_key, options.tls_client_ca)

    def _replace_next(self) -> None:
        while self._to_replace:
            old = self._to_replace.pop(0)
            if not old.ending and old in self._workers:
                self._start(replaces=old)
                return
        self._tell_reloaded()

    def _tell_reloaded(self, how: str = "") -> None:
        if self._reloading and self._announced:
            self._reloading = False
            self._notifier.ready(self._serving + how)

    # -- deaths ----------------------------------------------------------------------------------

    def _bury_the_dead(self) -> None:
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                self._bury(worker)

    def _bury(self, worker: WorkerProcess) -> None:
        if worker.control.sock in self._selector.get_map():
            self._listen_to(worker)  # its last words
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.control.sock)
        worker.control.sock.close()
        self._workers.remove(worker)
        for question in self._questions.values():
            question.leave_out(worker.pid)
        # Of one that was killed, what it had told when it was last asked.
        self._gone = metrics.add([self._gone, metrics.what_remains(worker.figures)])
        lost = self._table.of(worker.line)
        self._table.clear(worker.line)
        self._hint_at_room()
        how = worker.how_it_ended
        if worker.ending or self._ending_since is not None:
            self._aborted += worker.aborted + lost
            if worker.process.returncode and worker.ready:
                _log.error("worker %d %s, with %d connections", worker.pid, how, lost)
            return
        if worker.failure is not None and not self._announced:
            text, kind = worker.failure
            self._fail(StartError(text) if kind == 1 else UsageError(text))
            return
        why = worker.failure[0] if worker.failure else f"{lost} connections are lost"
        _log.error("worker %d %s: %s", worker.pid, how, why)
        if worker.replaces is not None:
            _log.error("the other workers stay as they are")
            self._to_replace.clear()
            self._tell_reloaded("; not reloaded: a new worker has died")
            return
        if time.monotonic() - worker.started_at >= QUICK_SECONDS and worker.ready:
            self._quick_deaths = 0
            self._start_at = time.monotonic()
            return
        self._quick_deaths += 1
        if self._quick_deaths >= MOST_QUICK_DEATHS:
            self._fail(
                StartError(
                    f"workers die at once, {self._quick_deaths} times in a row (the last {how}): "
                    "giving up"
                )
            )
            return
        wait = min(FIRST_BACK_OFF * 2 ** (self._quick_deaths - 1), MOST_BACK_OFF)
        _log.info("another is started in %s", format_duration(wait))
        self._start_at = time.monotonic() + wait

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, error: AnysockError) -> None:
        if self._failure is None:
            self._failure = error
        if self._ending_since is None:
            self._end()

    def _end(self) -> None:
        """Let all workers drain, after the delay."""
        now = time.monotonic()
        self._ending_since = now
        self._deadline = now + self._options.drain_timeout + END_MARGIN_SECONDS
        self._to_replace.clear()
        delay = self._options.drain_delay if self._failure is None else 0.0
        self._drain_at = now + delay
        if delay:
            _log.info("not ready any more: draining begins in %g s", delay)
            self._notifier.stopping(f"draining begins in {delay:g} s", delay)
        else:
            self._drain(now)

    def _drain(self, now: float) -> None:
        """Let all workers drain, now."""
        self._draining = True
        self._told_at = now
        left, seconds = self._table.total(), self._seconds_left(now)
        self._notifier.stopping(f"draining: {left} connections left", seconds)
        if self._failure is None:
            _log.info("draining: %d connections left, for at most %g s", left, seconds)
        # Before the workers close theirs: then nobody listens, and who connects is refused. (So
        # the delay is not theirs, either: they would not all be over it at the same time.)
        self._sockets.close()
        for worker in self._workers:
            worker.ending = True
            if worker.ready:
                worker.control.tell(do="end")
            else:
                worker.process.terminate()

    def _seconds_left(self, now: float) -> float:
        """How long the connections have, from `now` on."""
        return round(max(self._deadline - END_MARGIN_SECONDS - now, 0.0), 2)

    def _end_turn(self, now: float) -> None:
        if not self._draining:
            if now >= self._drain_at:
                self._drain(now)
        elif now >= self._deadline:
            for worker in self._workers:
                _log.error("worker %d does not end: it is killed", worker.pid)
                worker.process.kill()
            self._deadline = now + END_MARGIN_SECONDS
        elif now - self._told_at >= TELL_SECONDS:
            self._told_at = now
            left = self._table.total()
            if left:
                seconds = self._seconds_left(now)
                _log.info("draining: %d connections left, %.0f s left", left, seconds)
                self._notifier.status(f"draining: {left} connections left", seconds)

    def _tell_drained(self, seconds: float) -> None:
        if self._aborted:
            _log.warning("drained in %.2f s: %d connections were aborted", seconds, self._aborted)
        else:
            _log.info("drained in %.2f s", seconds)

    def _end_at_once(self, signum: int) -> NoReturn:
        for worker in self._workers:
            worker.process.kill()
        last_words(f"a second signal, {signal.Signals(signum).name}: exiting at once")
        raise SystemExit(1)
