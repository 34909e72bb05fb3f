"""The supervisor: starts the workers, replaces those that die or are old, and ends them all."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from anysock import systemd
from anysock.engines.posix.machine import MACHINE
from anysock.errors import AnysockError, StartError, UsageError
from anysock.handlers import Handler
from anysock.net.addresses import Address
from anysock.net.certificates import server_context
from anysock.options.serve import ServeOptions
from anysock.options.units import format_duration
from anysock.server.accept_policy import BACK_OFF_SECONDS
from anysock.server.admission import connections_that_fit
from anysock.telemetry.events import Events
from anysock.telemetry.logs import LogEvents, last_words
from anysock.workers import hiring
from anysock.workers.ending import Ending
from anysock.workers.figures import Question, Questions
from anysock.workers.process import NOT_STARTED, WorkerProcess, cause_of
from anysock.workers.slots import SlotTable
from anysock.workers.sockets import SharedSockets
from anysock.workers.staffing import Retire, Staffing
from anysock.workers.waking import Bell

_log = logging.getLogger("anysock")
_ready_log = logging.getLogger("anysock.ready")


# A turn of the supervisor that fails so often in a row will not work again.
MOST_FAILURES = 50


class Supervisor:
    """Runs ``options.workers`` workers until SIGINT or SIGTERM."""

    def __init__(
        self, handler: Handler | str, options: ServeOptions, events: Events | None = None
    ) -> None:
        self._options = options
        self._handler = handler
        self._events = events
        self._staffing: Staffing[WorkerProcess] = Staffing(options.workers)
        self._most = options.max_connections or connections_that_fit(MACHINE) * options.workers
        self._selector = selectors.DefaultSelector()
        self._bell = Bell()
        self._questions = Questions()
        self._paused = False
        self._announced = False
        self._reloading = False
        self._aborted = 0
        # Once it ends; and why, where that is a failure.
        self._ending: Ending | None = None
        self._failure: AnysockError | None = None
        # Of the last that failed: why it could not be started, or how it died.
        self._last_cause = ""
        self._last_death = ""
        # How often in a row a turn has failed.
        self._failures = 0
        self._serving = ""
        self._ping_at = 0.0

    @property
    def _workers(self) -> list[WorkerProcess]:
        return self._staffing.members

    # -- the life of a supervisor ----------------------------------------------------------------

    def run(self) -> int:
        """Serve; return how many connections had to be aborted.

        Raises `UsageError` and `StartError` when the workers can't begin, or die at once again and
        again.
        """
        hiring.check(self._handler, self._options, self._events)
        self._table = SlotTable()
        # From here on nothing of it is in the environment, which the workers inherit.
        self._notifier = systemd.Notifier()
        try:
            self._sockets = SharedSockets(self._options, LogEvents().address_left_out)
        except BaseException:
            self._table.close()
            self._notifier.close()
            raise
        self._hiring = hiring.Hiring(
            (self._handler, self._options, self._events), self._table, self._sockets, self._most
        )
        try:
            self._check_what_is_read_again()
            with self._bell.hung_up() as hear, self._admin():
                self._selector.register(hear, selectors.EVENT_READ, None)
                self._staff_up()
                while self._workers or self._ending is None:
                    self._survive(self._turn)
        finally:
            for worker in self._workers:
                worker.kill()
            self._sockets.close()
            self._selector.close()
            self._table.close()
            self._notifier.close()
        if self._failure is not None:
            raise self._failure
        began = self._ending.began if self._ending else 0.0
        self._tell_drained(time.monotonic() - began)
        return self._aborted

    def _admin(self) -> contextlib.AbstractContextManager[object]:
        """The admin endpoint of all workers, if there is to be one."""
        address = self._options.admin
        if not isinstance(address, Address):
            return contextlib.nullcontext()
        from anysock.admin import AdminEndpoint
        from anysock.workers.figures import FleetFigures

        return AdminEndpoint(address, FleetFigures(self))

    def _survive(self, turn: Callable[[], object]) -> None:
        """Whatever fails here, for want of memory or by a fault of ours, the workers serve on."""
        try:
            turn()
            self._failures = 0
        except Exception as error:
            self._failures += 1
            if self._ending is not None or self._failures >= MOST_FAILURES:
                raise
            if self._failures == 1:
                _log.error("the supervisor failed, and goes on", exc_info=error)
            time.sleep(BACK_OFF_SECONDS)

    def _turn(self) -> None:
        self._wait_for_the_deaf()
        for key, _ in self._selector.select(self._patience_with_watchdog()):
            if key.data is None:
                self._bell.answer(key.fileobj, self._heard)  # type: ignore[arg-type]
            else:
                self._listen_to(key.data)
        self._bury_the_dead()
        now = time.monotonic()
        if self._ending is None:
            self._staff_up()
        else:
            self._end_turn(self._ending, now)

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
        if self._ending is not None:
            return self._ending.patience(now)
        start_at = self._staffing.start_at
        return None if start_at is None else max(start_at - now, 0.0)

    def _heard(self, signum: int) -> None:
        match signum:
            case signal.SIGINT | signal.SIGTERM:
                if self._ending is not None:
                    self._end_at_once(signum)
                self._end()
            case signal.SIGHUP if self._ending is None:
                self._reload()
            case signal.SIGTTIN if self._ending is None:
                self._staffing.want_more()
                _log.info("one worker more: %d", self._staffing.wanted)
                self._tell_all(do="udp", **self._udp_rates())
            case signal.SIGTTOU if self._ending is None:
                if self._staffing.want_less():
                    _log.info("one worker less: %d", self._staffing.wanted)
                    self._tell_all(do="udp", **self._udp_rates())

    # -- what the admin endpoint asks, from a thread of its own ------------------------------------

    def call(self, func: Callable[[], object]) -> None:
        """Let `func` be called on the supervisor's own thread. May be called from any thread."""
        self._bell.call(func)

    def ask(self, question: Question) -> None:
        """Ask the workers something. To be called on the supervisor's own thread."""
        self._questions.ask(question, [worker for worker in self._workers if worker.ready])

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
        if self._ending is not None:
            return "draining"
        if self._paused:
            return "accepting is paused"
        return None if self._staffing.serving else "no worker is ready"

    @property
    def most_connections(self) -> int:
        """The one number for all workers."""
        return self._most

    # -- workers ---------------------------------------------------------------------------------

    def _staff_up(self) -> None:
        """Do what there is to do about the number of workers, and their age."""
        staffing = self._staffing
        while (step := staffing.step(time.monotonic())) is not None:
            if isinstance(step, Retire):
                self._retire(step.member, step.successor)
            else:
                self._start()
        if not staffing.complete:
            if staffing.gives_up and self._failure is None:
                self._fail(self._why_it_gives_up())
        elif not self._announced:
            self._announced = True
            self._announce()
        else:
            self._tell_reloaded()

    def _start(self) -> None:
        staffing = self._staffing
        try:
            worker = self._hiring.start(staffing.generation, staffing.wanted, self._workers)
            self._register(worker)
        except NOT_STARTED as error:
            self._last_cause = cause_of(error)
            if staffing.not_started(self._last_cause, time.monotonic()):
                _log.error("can't start a worker: %s; tried again until it works", self._last_cause)
            return
        failed = staffing.started(worker)
        if failed:
            _log.info("worker %d is started, after %d tries that failed", worker.pid, failed)

    def _register(self, worker: WorkerProcess) -> None:
        try:
            self._selector.register(worker.control.sock, selectors.EVENT_READ, worker)
        except BaseException:
            worker.kill()
            raise

    def _udp_rates(self) -> dict[str, float]:
        return self._hiring.udp_rates(self._staffing.wanted)

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
                    self._questions.answered(number, worker, value)
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
        if self._ending is not None and self._ending.draining:
            worker.control.tell(do="end")

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

    def _retire(self, worker: WorkerProcess, successor: WorkerProcess | None) -> None:
        if successor is not None:
            _log.info("worker %d takes the place of %d", successor.pid, worker.pid)
        worker.ending = True
        worker.control.tell(do="retire")

    def _reload(self) -> None:
        """SIGHUP: one by one, start a new worker, and when it is ready let the old one go."""
        self._reloading = True
        self._notifier.reloading()
        try:
            self._check_what_is_read_again()
        except AnysockError as error:
            _log.error("the workers stay as they are: %s", error)
            self._tell_reloaded(f"; not reloaded: {error}")
            return
        _log.info("replacing %d workers, one by one", self._staffing.reload())

    def _check_what_is_read_again(self) -> None:
        """Raises `StartError` if new workers could not begin, for what they read anew."""
        options = self._options
        if options.tls_cert is not None:
            server_context(options.tls_cert, options.tls_key, options.tls_client_ca)

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
        reload_failed = self._staffing.died(worker, time.monotonic())
        self._questions.is_gone(worker)
        lost = self._table.of(worker.line)
        self._table.clear(worker.line)
        self._hint_at_room()
        self._last_death = how = worker.how_it_ended
        if worker.ending or self._ending is not None:
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
        if reload_failed:
            _log.error("the other workers stay as they are")
            self._tell_reloaded("; not reloaded: a new worker has died")
        start_at = self._staffing.start_at
        if start_at is not None and len(self._staffing.living) < self._staffing.wanted:
            wait = max(start_at - time.monotonic(), 0.0)
            _log.info("another is started in %s", format_duration(round(wait, 1)))

    def _why_it_gives_up(self) -> StartError:
        if not self._staffing.quick_deaths:
            return StartError(f"can't start the workers: {self._last_cause}")
        return StartError(
            f"workers die at once, {self._staffing.quick_deaths} times in a row (the last "
            f"{self._last_death}): giving up"
        )

    # -- the end ---------------------------------------------------------------------------------

    def _fail(self, error: AnysockError) -> None:
        if self._failure is None:
            self._failure = error
        if self._ending is None:
            self._end()

    def _end(self) -> None:
        """Let all workers drain, after the delay."""
        now = time.monotonic()
        delay = self._options.drain_delay if self._failure is None else 0.0
        self._ending = Ending.at(now, delay, self._options.drain_timeout)
        if delay:
            _log.info("not ready any more: draining begins in %g s", delay)
            self._notifier.stopping(f"draining begins in {delay:g} s", delay)
        else:
            self._drain(self._ending, now)

    def _drain(self, ending: Ending, now: float) -> None:
        """Let all workers drain, now."""
        ending.draining = True
        ending.told_at = now
        left, seconds = self._table.total(), ending.seconds_left(now)
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

    def _end_turn(self, ending: Ending, now: float) -> None:
        if not ending.draining:
            if now >= ending.drain_at:
                self._drain(ending, now)
        elif ending.is_late(now):
            for worker in self._workers:
                _log.error("worker %d does not end: it is killed", worker.pid)
                worker.process.kill()
        elif ending.may_tell(now) and (left := self._table.total()):
            seconds = ending.seconds_left(now)
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
