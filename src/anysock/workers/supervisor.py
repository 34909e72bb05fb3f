"""The supervisor: starts the workers, replaces those that die or are old, and ends them all."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from anysock import systemd
from anysock.engines.posix.machine import MACHINE
from anysock.errors import AnysockError, LifespanFailed, StartError, UsageError
from anysock.handlers import Handler
from anysock.net.addresses import Address
from anysock.net.certificates import Certificates
from anysock.options.serve import ServeOptions
from anysock.server.accept_policy import BACK_OFF_SECONDS
from anysock.server.admission import connections_that_fit
from anysock.server.process import tell_of_second_signal
from anysock.server.server import Lifespan
from anysock.telemetry.events import EventGroup, Events
from anysock.telemetry.logs import LogEvents
from anysock.workers import hiring
from anysock.workers.channels import Channels
from anysock.workers.ending import Ending
from anysock.workers.figures import Question, Questions
from anysock.workers.process import NOT_STARTED, WorkerProcess, cause_of
from anysock.workers.slots import SlotTable
from anysock.workers.sockets import SharedSockets
from anysock.workers.staffing import Retire, Staffing
from anysock.workers.waking import WakeupPipe

# The supervisor ends when this many of its iterations in a row have failed.
MAX_FAILURES = 50


class Supervisor:
    """Runs ``options.workers`` workers until SIGINT or SIGTERM.

    It emits the events that concern all workers, to the same listeners as a server in one process
    has; `events` are those of the workers.
    """

    def __init__(
        self,
        handler: Handler | str,
        options: ServeOptions,
        events: Events | None = None,
        lifespan: Lifespan[Any] | str | None = None,
    ) -> None:
        self._options = options
        self._server = (handler, lifespan, options, events)
        self._emit: Events = EventGroup(LogEvents())
        self._staffing: Staffing[WorkerProcess] = Staffing(options.workers)
        #: The maximum of connections, for all workers together.
        self.max_connections = (
            options.max_connections or connections_that_fit(MACHINE) * options.workers
        )
        self._channels = Channels()
        self._pipe = WakeupPipe()
        self._questions = Questions()
        self._paused = False
        self._announced = False
        self._aborted = 0
        # Once it ends; and why, if that is a failure.
        self._ending: Ending | None = None
        self._failure: AnysockError | None = None
        # Why the last worker could not be started, and how the last one died.
        self._last_cause = ""
        self._last_death = ""
        # How many iterations in a row have failed.
        self._failures = 0
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
        hiring.check(*self._server)
        with contextlib.ExitStack() as stack:
            self._table = SlotTable()
            stack.callback(self._table.close)
            # Removes its variables from the environment, which the workers inherit.
            self._notifier = systemd.Notifier()
            stack.callback(self._notifier.close)
            self._emit = EventGroup(LogEvents(), systemd.NotifyEvents(self._notifier))
            self._sockets = SharedSockets(self._options, self._emit.address_left_out)
            stack.callback(self._sockets.close)
            self._hiring = hiring.Hiring(
                self._server, self._table, self._sockets, self.max_connections
            )
            stack.callback(self._channels.close)
            stack.callback(self._kill_all)
            self._check_what_is_read_again()
            pipe = stack.enter_context(self._pipe.open())
            self._channels.add_pipe(pipe)
            stack.enter_context(self._admin())
            self._staff_up()
            while self._workers or self._ending is None:
                self._survive(lambda: self._iterate(pipe))
            if self._failure is None:
                assert self._ending is not None
                self._emit.drained(self._aborted, time.monotonic() - self._ending.began)
        if self._failure is not None:
            raise self._failure
        return self._aborted

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _admin(self) -> contextlib.AbstractContextManager[object]:
        """The admin endpoint of all workers, if there is to be one."""
        address = self._options.admin
        if not isinstance(address, Address):
            return contextlib.nullcontext()
        from anysock.admin import AdminEndpoint
        from anysock.workers.figures import FleetFigures

        return AdminEndpoint(address, FleetFigures(self), write=self._options.admin_write)

    def _survive(self, iterate: Callable[[], object]) -> None:
        """Run one iteration. If it fails, for want of memory or by a bug, the workers serve on."""
        try:
            iterate()
            self._failures = 0
        except Exception as error:
            self._failures += 1
            if self._ending is not None or self._failures >= MAX_FAILURES:
                raise
            if self._failures == 1:
                self._emit.housekeeping_failed("the supervisor", error, 0)
            time.sleep(BACK_OFF_SECONDS)

    def _iterate(self, pipe: socket.socket | None = None) -> None:
        for worker in self._channels.wait(self._seconds_to_wait(), self._workers):
            if worker is not None:
                self._receive(worker)
            elif pipe is not None:
                self._pipe.empty(pipe, self._heard)
        self._reap()
        if self._ending is None:
            self._staff_up()
        else:
            self._go_on_ending(self._ending, time.monotonic())

    def _seconds_to_wait(self) -> float | None:
        """Until there is something to do, unless something happens; None: without end. Tells
        systemd's watchdog, when it is time to, that the supervisor lives. (The watchdog does not
        notice a worker that is held up.)"""
        now = time.monotonic()
        seconds: float | None
        if self._ending is not None:
            seconds = self._ending.seconds_to_wait(now)
        else:
            start_at = self._staffing.restarts.start_at
            seconds = None if start_at is None else max(start_at - now, 0.0)
        if (every := self._notifier.watchdog_seconds) is None:
            return seconds
        if now >= self._ping_at:
            self._notifier.watchdog()
            self._ping_at = now + every
        left = self._ping_at - now
        return left if seconds is None else min(seconds, left)

    def _heard(self, signum: int) -> None:
        match signum:
            case signal.SIGINT | signal.SIGTERM:
                if self._ending is not None:
                    self._end_at_once(signum)
                self._end()
            case signal.SIGHUP if self._ending is None:
                self._reload()
            case signal.SIGTTIN | signal.SIGTTOU if self._ending is None:
                staffing, before = self._staffing, self._staffing.wanted
                if signum == signal.SIGTTIN:
                    staffing.want_more()
                elif not staffing.want_less():
                    return
                self._emit.workers_wanted(staffing.wanted, before)
                self._send_to_all(do="udp", **self._udp_rates())

    # -- what the admin endpoint asks, from a thread of its own ------------------------------------

    def call(self, func: Callable[[], object]) -> None:
        """Let `func` be called on the supervisor's own thread. May be called from any thread."""
        self._pipe.call(func)

    def ask(self, question: Question) -> None:
        """Ask the workers something. To be called on the supervisor's own thread."""
        self._questions.ask(question, [worker for worker in self._workers if worker.ready])

    def request_end(self) -> None:
        """End, as SIGTERM does. On the supervisor's own thread."""
        if self._ending is None:
            self._end()

    def pause(self) -> None:
        """Let no worker accept connections until `resume`. On the supervisor's own thread."""
        if not self._paused:
            self._paused = True
            self._emit.accepting_paused()
            self._send_to_all(do="pause")

    def resume(self) -> None:
        """Let the workers accept again. On the supervisor's own thread."""
        if self._paused:
            self._paused = False
            self._emit.accepting_resumed()
            self._send_to_all(do="resume")

    @property
    def unready(self) -> str | None:
        """Why a load balancer should send no more clients; None: the server is ready for them."""
        if self._ending is not None:
            return "draining"
        if self._paused:
            return "accepting is paused"
        return None if self._staffing.serving else "no worker is ready"

    # -- workers ---------------------------------------------------------------------------------

    def _staff_up(self) -> None:
        """Do what the number of workers, and their age, ask for."""
        staffing = self._staffing
        while (step := staffing.step(time.monotonic())) is not None:
            if isinstance(step, Retire):
                self._retire(step.member, step.successor)
            else:
                self._start()
        if not staffing.complete:
            self._give_up_if_useless()
        elif not self._announced:
            self._announced = True
            self._emit.listening(self._sockets.addresses, str(self._options.engine))
            self._emit.workers_started([each.pid for each in self._workers], self.max_connections)
        elif staffing.reload.end():
            self._emit.reloaded()

    def _start(self) -> None:
        staffing = self._staffing
        try:
            worker = self._hiring.start(staffing.reload.generation, staffing.wanted, self._workers)
            self._channels.add(worker)
        except NOT_STARTED as error:
            self._last_cause = cause_of(error)
            if staffing.restarts.not_started(self._last_cause, time.monotonic()):
                self._emit.worker_not_started(self._last_cause)
            return
        self._emit.worker_started(worker.pid, staffing.started(worker))

    def _udp_rates(self) -> dict[str, float]:
        return self._hiring.udp_rates(self._staffing.wanted)

    def _receive(self, worker: WorkerProcess) -> None:
        worker.control.flush()
        messages = worker.control.receive()
        if messages is None:
            # It has closed its end: it is about to die, and SIGCHLD will tell.
            self._channels.remove(worker)
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
                case {"end": True}:
                    if self._ending is None:
                        self._end()
                case {"freed": True}:
                    self._tell_of_room(besides=worker)

    def _send_to_all(self, **words: Any) -> None:
        for worker in self._workers:
            if worker.ready:
                worker.control.send(**words)

    def _tell_of_room(self, besides: WorkerProcess | None = None) -> None:
        """There may be room for a connection again. A worker that misses this checks by itself
        (`FULL_SECONDS`)."""
        for worker in self._workers:
            if worker is not besides and worker.ready:
                worker.control.send_if_ready(do="room")

    def _is_ready(self, worker: WorkerProcess) -> None:
        worker.ready = True
        # There may be more workers, or fewer, than when it was started.
        worker.control.send(do="udp", **self._udp_rates())
        if self._paused:
            worker.control.send(do="pause")
        if self._ending is not None and self._ending.draining:
            worker.control.send(do="end")

    def _retire(self, worker: WorkerProcess, successor: WorkerProcess | None) -> None:
        if successor is not None:
            self._emit.worker_replaced(worker.pid, successor.pid)
        worker.ending = True
        worker.control.send(do="retire")

    def _reload(self) -> None:
        """SIGHUP: one by one, start a new worker, and retire an old one once it is ready."""
        reload = self._staffing.reload
        reload.ask()
        self._emit.reload_begun()
        try:
            self._check_what_is_read_again()
        except AnysockError as error:
            self._reload_failed(error)
            return
        reload.begin()
        self._emit.workers_reloading(len(self._staffing.old))

    def _reload_failed(self, error: Exception) -> None:
        # Before all workers serve, the reload ends with their start.
        if self._announced:
            self._staffing.reload.end()
        self._emit.reload_failed(error)

    def _check_what_is_read_again(self) -> None:
        """Raises `StartError` if new workers could not begin, for what they read anew."""
        options = self._options
        if options.tls_cert:
            Certificates(options.tls_cert, options.tls_key, options.tls_client_ca, options.tls_alpn)

    # -- deaths ----------------------------------------------------------------------------------

    def _reap(self) -> None:
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                self._is_dead(worker)

    def _is_dead(self, worker: WorkerProcess) -> None:
        if self._channels.has(worker):
            self._receive(worker)  # its last messages
        self._channels.remove(worker)
        worker.control.sock.close()
        reload_failed = self._staffing.died(worker, time.monotonic())
        self._questions.is_gone(worker)
        lost = self._table.of(worker.slot)
        self._table.clear(worker.slot)
        self._tell_of_room()
        self._last_death = how = worker.how_it_ended
        cost = f"{lost} connections are lost"
        if worker.ending or self._ending is not None:
            self._aborted += worker.aborted + lost
            if worker.process.returncode and worker.ready:
                why = worker.failure[0] if worker.failure else cost
                self._emit.worker_died(worker.pid, how, why, None)
                if worker.failure and self._failure is None:
                    self._failure = LifespanFailed(worker.failure[0])
        elif worker.failure is not None and not self._announced:
            text, kind = worker.failure
            self._fail(StartError(text) if kind == 1 else UsageError(text))
        else:
            why = worker.failure[0] if worker.failure else cost
            self._emit.worker_died(worker.pid, how, why, self._restart_in())
            if reload_failed:
                self._reload_failed(StartError("a new worker has died"))
            # Now, before another death is counted.
            self._give_up_if_useless()

    def _restart_in(self) -> float | None:
        """In how many seconds a worker is started again; None: none is missing."""
        start_at = self._staffing.restarts.start_at
        if start_at is None or len(self._staffing.living) >= self._staffing.wanted:
            return None
        return max(start_at - time.monotonic(), 0.0)

    def _give_up_if_useless(self) -> None:
        if self._staffing.gives_up:
            self._fail(self._why_it_gives_up())

    def _why_it_gives_up(self) -> StartError:
        deaths = self._staffing.restarts.quick_deaths
        if not deaths:
            return StartError(f"can't start the workers: {self._last_cause}")
        return StartError(
            f"workers die at once, {deaths} times in a row (the last {self._last_death}): giving up"
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
            self._emit.drain_delayed(delay)
        else:
            self._drain(self._ending, now)

    def _drain(self, ending: Ending, now: float) -> None:
        """Let all workers drain, now."""
        ending.draining = True
        ending.reported_at = now
        if self._failure is None:
            self._emit.drain_begun(self._table.total(), ending.seconds_left(now))
        else:
            self._emit.gave_up(self._failure, ending.seconds_left(now))
        # Before the workers close theirs: then nobody listens, and new connections are refused. (So
        # the workers have no delay of their own: they would not all end it at the same time.)
        self._sockets.close()
        for worker in self._workers:
            worker.ending = True
            if worker.ready:
                worker.control.send(do="end")
            else:
                worker.process.terminate()

    def _go_on_ending(self, ending: Ending, now: float) -> None:
        if not ending.draining:
            if now >= ending.drain_at:
                self._drain(ending, now)
        elif ending.is_late(now):
            for worker in self._workers:
                self._emit.worker_killed(worker.pid)
                worker.process.kill()
        elif ending.may_report(now) and (left := self._table.total()):
            self._emit.drain_left(left, ending.seconds_left(now))

    def _end_at_once(self, signum: int) -> NoReturn:
        for worker in self._workers:
            worker.process.kill()
        tell_of_second_signal(signum)
        raise SystemExit(1)
