"""The supervisor over a table of processes that are none: whoever dies when, whatever can't be
started, whatever signal comes. In the end there are as many workers as are wanted, with the newest
code; and meanwhile nobody who serves is taken along by one who can't."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from anysock.options.serve import ServeOptions
from anysock.systemd import Notifier, NotifyEvents
from anysock.telemetry.events import EventGroup
from anysock.telemetry.logs import LogEvents
from anysock.workers import supervisor as supervised
from anysock.workers.process import WorkerProcess
from anysock.workers.restart_policy import MAX_FAILURES
from anysock.workers.slots import MAX_WORKERS
from anysock.workers.supervisor import Supervisor

FAILURES = [
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/gone/python3"),
    MemoryError(),
    subprocess.SubprocessError("the child could not begin"),
]


class Process:
    """What the supervisor sees of a process, and the end of its control socket."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.sock = self
        self.messages: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.has_outbox = False

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.returncode = -signal.SIGKILL

    terminate = kill

    def wait(self) -> None:
        assert self.returncode is not None

    def close(self) -> None: ...
    def flush(self) -> None: ...

    def receive(self) -> list[dict[str, Any]] | None:
        said, self.messages = self.messages, []
        return said or (None if self.returncode is not None else [])

    def send(self, **words) -> None:
        self.told.append(words["do"])

    def send_if_ready(self, **words) -> bool:
        return True

    @property
    def serves(self) -> bool:
        return self.is_to_stay and {"ready": True} in self.said

    @property
    def is_to_stay(self) -> bool:
        return self.returncode is None and not {"retire", "end"} & set(self.told)

    said: list[dict[str, Any]] = []

    def say(self, **words) -> None:
        self.said = [*self.said, words]
        self.messages.append(words)


class Selector:
    def __init__(self) -> None:
        self.map: dict[Process, SimpleNamespace] = {}

    def get_map(self):
        return self.map

    def register(self, sock, events, data):
        self.map[sock] = SimpleNamespace(fileobj=sock, events=events, data=data)

    def unregister(self, sock):
        del self.map[sock]

    def modify(self, sock, events, data): ...

    def select(self, patience):
        return [(key, 1) for key in list(self.map.values()) if key.fileobj.messages]


class Anything:
    """A notifier, or sockets, of which nothing is asked here."""

    def __init__(self) -> None:
        self.addresses = ["tcp://127.0.0.1:1"]
        self.watchdog_seconds = None
        self.told: list[str] = []

    def ready(self, status="") -> None:
        self.told.append("ready")

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self, *_) -> None:
        self.told.append("stopping")

    def status(self, *_) -> None: ...
    def close(self) -> None: ...


class Table:
    def of(self, slot: int) -> int:
        return 0

    def clear(self, slot: int) -> None: ...

    def total(self) -> int:
        return 0


class Fleet:
    """A `Supervisor`, with processes, sockets and a clock that are none."""

    def __init__(self, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(
            supervised, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=lambda _: None)
        )
        supervisor: Any = Supervisor("echo", ServeOptions(bind="127.0.0.1:0", workers=wanted))
        supervisor._channels.close()
        supervisor._channels._selector = Selector()
        self.notifier = supervisor._notifier = Anything()
        supervisor._emit = EventGroup(LogEvents(), NotifyEvents(cast(Notifier, self.notifier)))
        supervisor._sockets = Anything()
        supervisor._table = Table()
        supervisor._hiring = self
        self.supervisor = supervisor
        #: What keeps a worker from being started.
        self.failure: BaseException | None = None
        self.processes: list[Process] = []
        self.tries = 0
        self.supervisor._staff_up()

    # What stands in for `Hiring`.

    def start(self, generation, wanted, workers):
        self.tries += 1
        if self.failure is not None:
            raise self.failure
        process: Any = Process(1000 + len(self.processes))
        worker = WorkerProcess(process, process, len(self.processes), generation)
        worker.started_at = self.now
        self.processes.append(process)
        return worker

    def udp_rates(self, wanted):
        return {}

    # What happens.

    def turn(self) -> None:
        if self.supervisor._ending is None:
            self.supervisor._iterate()

    def signal(self, signum: int) -> None:
        if self.supervisor._ending is None:
            self.supervisor._heard(signum)

    def all_begin(self) -> None:
        for process in self.starting:
            process.say(ready=True)
        self.turn()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    @property
    def staying(self) -> list[Process]:
        return [process for process in self.processes if process.is_to_stay]

    @property
    def serving(self) -> list[Process]:
        return [process for process in self.processes if process.serves]

    @property
    def starting(self) -> list[Process]:
        alive = [process for process in self.processes if process.returncode is None]
        return [process for process in alive if {"ready": True} not in process.said]

    def settle(self) -> None:
        """All that is started begins, who is to go goes, and nothing fails any more."""
        self.failure = None
        for _ in range(40):
            self.pass_time(6)
            self.all_begin()
            for process in self.processes:
                if process.returncode is None and not process.is_to_stay:
                    process.returncode = 0
            self.turn()


@pytest.fixture
def fleet(monkeypatch):
    def build(wanted: int = 2) -> Fleet:
        built = Fleet(wanted, monkeypatch)
        built.all_begin()
        assert len(built.serving) == wanted
        built.pass_time(10)
        return built

    return build


# What passes after something has happened, until the supervisor looks.
SECONDS = st.sampled_from([0.0, 0.0, 0.2, 6.0])


class Deaths(RuleBasedStateMachine):
    """Deaths × starts that fail × SIGHUP × SIGTTIN and SIGTTOU."""

    @initialize(wanted=st.integers(2, 4), begun=st.booleans())
    def begin(self, wanted, begun):
        self.patch = pytest.MonkeyPatch()
        self.fleet = Fleet(wanted, self.patch)
        self.wanted = wanted
        self.begun = begun
        #: Whether who is started dies before it serves.
        self.broken = False
        if begun:
            self.fleet.all_begin()

    @property
    def over(self) -> bool:
        return self.fleet.supervisor._ending is not None

    def turn(self, seconds: float) -> None:
        if self.over:
            return
        fleet = self.fleet
        if self.broken:
            for process in fleet.starting:
                process.returncode = 1
        served = [process for process in fleet.serving if process.returncode is None]
        complete = self.begun
        fleet.pass_time(seconds)
        self.begun |= len(fleet.serving) >= self.wanted
        if self.over:
            assert not (complete and served), "who could not begin has taken others along"
            return
        assert not served or fleet.serving, "the last that served was told to go"
        assert len(fleet.staying) <= self.wanted + 1
        start_at = fleet.supervisor._staffing.restarts.start_at
        if fleet.failure is None and (start_at is None or start_at <= fleet.now):
            assert len(fleet.staying) >= self.wanted

    @rule(seconds=st.sampled_from([0.0, 0.1, 6.0]), times=st.integers(1, 4))
    def time_passes(self, seconds, times):
        for _ in range(times):
            self.turn(seconds)

    @rule(which=st.integers(0, 9), seconds=SECONDS)
    def begins(self, which, seconds):
        if starting := self.fleet.starting:
            starting[which % len(starting)].say(ready=True)
        self.turn(seconds)

    @rule(which=st.lists(st.integers(0, 9), max_size=3), word=st.booleans(), seconds=SECONDS)
    def die(self, which, word, seconds):
        """Some at once; perhaps one that had said that it was ready, a moment ago."""
        for each in which:
            if alive := [one for one in self.fleet.processes if one.returncode is None]:
                process = alive[each % len(alive)]
                if word and process in self.fleet.starting:
                    process.say(ready=True)
                process.returncode = -signal.SIGKILL
        self.turn(seconds)

    @rule(
        signals=st.lists(
            st.sampled_from([signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU]), min_size=1, max_size=4
        ),
        together=st.booleans(),
    )
    def signals_come(self, signals, together):
        for signum in signals:
            if self.over:
                return
            if signum == signal.SIGTTIN:
                self.wanted += 1
            elif signum == signal.SIGTTOU:
                self.wanted = max(self.wanted - 1, 1)
            self.fleet.signal(signum)
            if not together:
                self.turn(0)
        self.turn(0)

    @rule(failure=st.none() | st.sampled_from(FAILURES))
    def starts_fail(self, failure):
        self.fleet.failure = failure

    @rule(broken=st.booleans())
    def new_code(self, broken):
        self.broken = broken

    @precondition(lambda self: not self.over)
    @rule()
    def the_number_comes_back(self):
        self.broken = False
        self.fleet.settle()
        if self.over:
            return
        self.begun = True
        assert len(self.fleet.serving) == self.wanted
        assert len(self.fleet.staying) == self.wanted
        assert not self.fleet.supervisor._staffing.old
        assert not self.fleet.supervisor._staffing.reload.under_way

    def teardown(self):
        try:
            self.the_number_comes_back()
        finally:
            self.patch.undo()


def test_the_number_of_workers_comes_back_whoever_dies_when():
    logging.getLogger("anysock").setLevel(logging.CRITICAL)
    try:
        run_machine(Deaths, settings=settings(max_examples=100, stateful_step_count=40))
    finally:
        logging.getLogger("anysock").setLevel(logging.NOTSET)


def test_a_worker_that_dies_together_with_its_replacement_is_replaced(fleet):
    fleet = fleet(2)
    fleet.signal(signal.SIGHUP)
    fleet.turn()
    (replacement,) = fleet.starting
    replacement.returncode = fleet.processes[0].returncode = -9
    fleet.turn()
    fleet.settle()
    assert len(fleet.serving) == 2


def test_the_old_one_that_dies_while_its_replacement_begins_is_replaced(fleet):
    fleet = fleet(2)
    fleet.signal(signal.SIGHUP)
    fleet.turn()
    (replacement,) = fleet.starting
    fleet.processes[0].returncode = -9
    replacement.say(ready=True)
    fleet.turn()
    fleet.settle()
    assert len(fleet.serving) == 2
    assert not set(fleet.serving) & set(fleet.processes[:2]), "both are new"


def test_why_no_worker_can_be_started_is_told_once(fleet, caplog):
    fleet = fleet(2)
    caplog.set_level(logging.INFO, "anysock")
    first, second = fleet.processes
    first.returncode = -9
    for failure, tries in (FAILURES[0], 12), (FAILURES[3], 3):
        fleet.failure = failure
        before = fleet.tries
        while fleet.tries < before + tries:
            fleet.pass_time(0.05)
        assert fleet.serving == [second]
    fleet.failure = None
    fleet.pass_time(6)
    told = [each.getMessage() for each in caplog.records if "start" in each.getMessage()]
    missing = os.strerror(errno.ENOENT)
    assert told == [
        "can't start a worker: Too many open files; tried again until it works",
        f"can't start a worker: {missing}: /gone/python3; tried again until it works",
        "worker 1002 is started, after 15 tries that failed",
    ]


def test_between_two_tries_is_a_pause_that_grows(fleet):
    fleet = fleet(2)
    fleet.processes[0].returncode = -9
    fleet.failure = FAILURES[1]
    fleet.turn()
    times = []
    for _ in range(12):
        before, started = fleet.tries, fleet.now
        while fleet.tries == before:
            fleet.pass_time(0.01)
        times.append(round(fleet.now - started, 1))
    assert times == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]


def test_at_the_very_start_it_is_given_up(monkeypatch):
    monkeypatch.setattr(Fleet, "start", lambda self, *_: (_ for _ in ()).throw(FAILURES[3]))
    fleet = Fleet(2, monkeypatch)
    for _ in range(200):
        fleet.pass_time(0.1)
    assert str(fleet.supervisor._failure) == (
        "can't start the workers: No such file or directory: /gone/python3"
    )


def fails(fleet: Fleet) -> None:
    for process in fleet.starting:
        process.say(failed="no module named 'typo'", code=1)
        process.returncode = 1
    fleet.turn()


def test_new_code_that_dies_at_once_never_ends_those_that_serve(fleet):
    """Not gunicorn's "Worker failed to boot", which ends them all."""
    fleet = fleet(2)
    fleet.processes[0].returncode = -9
    for _ in range(4 * MAX_FAILURES):
        fleet.pass_time(6)
        fails(fleet)
        assert fleet.serving == [fleet.processes[1]]
    # And when nobody serves, it is given up, after as many tries as at the start.
    fleet.processes[1].returncode = -9
    fleet.turn()
    while fleet.supervisor._ending is None:
        assert len(fleet.processes) < 100
        fleet.pass_time(6)
        fails(fleet)
    assert "workers die at once" in str(fleet.supervisor._failure)
    assert fleet.notifier.told == ["ready", "stopping"]


def test_a_reload_whose_first_worker_dies_is_over_and_the_others_stay(fleet):
    fleet = fleet(2)
    fleet.signal(signal.SIGHUP)
    fleet.turn()
    (replacement,) = fleet.starting
    replacement.returncode = 1
    fleet.turn()
    assert fleet.notifier.told == ["ready", "reloading", "ready"]
    fleet.settle()
    assert fleet.serving == fleet.processes[:2]


def test_one_less_while_all_are_dead(fleet):
    fleet = fleet(2)
    for process in fleet.processes:
        process.returncode = -9
    fleet.failure = FAILURES[2]
    fleet.turn()
    fleet.signal(signal.SIGTTOU)
    fleet.settle()
    assert len(fleet.serving) == 1


def test_many_reloads_at_once_start_one_worker_at_a_time(fleet):
    fleet = fleet(2)
    for _ in range(50):
        fleet.signal(signal.SIGHUP)
        fleet.turn()
    assert len(fleet.starting) == 1
    fleet.settle()
    assert len(fleet.serving) == 2
    assert len(fleet.processes) <= 6


def test_where_too_many_old_ones_are_left_it_waits_for_one_to_end(fleet):
    """Each old worker serves its clients to their end, and has a slot in the table until then."""
    from anysock.workers.hiring import Hiring

    workers: list[Any] = [SimpleNamespace(slot=slot) for slot in range(MAX_WORKERS)]
    table: Any = Table()
    sockets: Any = Anything()
    hiring = Hiring(("echo", None, ServeOptions(), None), table, sockets, 1)
    with pytest.raises(OSError, match="are there already"):
        hiring.start(0, 2, workers)


def test_a_turn_that_fails_ends_nobody(fleet, caplog):
    """There may be no memory for a moment; or it is a fault of ours."""
    fleet = fleet(2)
    supervisor = fleet.supervisor
    supervisor._table.clear = Mock(side_effect=chain([MemoryError], repeat(None)))
    fleet.processes[0].returncode = -9
    for _ in range(3):
        supervisor._survive(supervisor._iterate)
    fleet.settle()
    assert len(fleet.serving) == 2
    assert [each.getMessage() for each in caplog.records if each.exc_info] == [
        "the supervisor failed, and goes on"
    ]


def test_a_turn_that_always_fails_is_given_up(fleet):
    supervisor = fleet(2).supervisor
    turn = Mock(side_effect=MemoryError)
    with pytest.raises(MemoryError):
        for _ in range(10 * MAX_FAILURES):
            supervisor._survive(turn)
    assert 10 <= turn.call_count <= 100


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (3, "ended with code 3"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
        # A signal without a name, between SIGRTMIN and SIGRTMAX.
        (-(signal.SIGRTMIN + 1), f"was killed by signal {signal.SIGRTMIN + 1}"),
    ],
)
def test_every_death_has_words(code, says):
    process: Any = Process(1)
    process.returncode = code
    assert WorkerProcess(process, process, 0, 0).how_it_ended == says
