"""What a simulated history refuses: the real machine."""

# ruff: noqa: DTZ001, DTZ003, DTZ005, DTZ007, DTZ011, E721, PLW0108 - a function itself has no frame that could be named

from __future__ import annotations

import copy
import datetime as dt
import email.utils
import importlib
import logging
import os
import pathlib
import pickle
import random
import secrets
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from datetime import datetime
from time import monotonic as taken_before

import pytest

import anysock
from anysock import sim
from anysock.engines.sim.host import EPOCH
from anysock.sim.guards import RealWorld, Watch

HERE = os.path.relpath(__file__)


def within(watch, func):
    """Call `func()` as part of a history."""
    with watch.on():
        return func()


REFUSED = {
    "time.time": lambda: time.time(),
    "time.monotonic": lambda: taken_before(),
    "time.localtime": lambda: time.localtime(),
    "time.strftime": lambda: time.strftime("%H"),
    "time.sleep": lambda: time.sleep(0),
    "email.utils.formatdate": lambda: email.utils.formatdate(),
    "datetime.datetime.now": lambda: datetime.now(),
    "datetime.datetime.utcnow": lambda: dt.datetime.utcnow(),
    "datetime.date.today": lambda: dt.date.today(),
    "random.random": lambda: random.random(),
    "random.choice": lambda: random.choice("ab"),
    "random.seed": lambda: random.seed(),
    "os.urandom": lambda: os.urandom(1),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "secrets.token_hex": lambda: secrets.token_hex(),
    "socket.socket.__init__": lambda: socket.socket(),
    "socket.create_connection": lambda: socket.create_connection(("127.0.0.1", 1)),
    "threading.Thread.start": lambda: threading.Thread(target=int).start(),
    "subprocess.run": lambda: subprocess.run(["true"], check=False),
    "os.fork": lambda: os.fork(),
    "open": lambda: open(__file__),
    # (Python 3.13 has it in `pathlib._local`.)
    f"{pathlib.Path.__module__}.Path.read_text": lambda: pathlib.Path(__file__).read_text(),
    "os.listdir": lambda: os.listdir("/"),
    "os.kill": lambda: os.kill(os.getpid(), 0),
    "anysock.tasks.runtime.run": lambda: anysock.run(do_nothing, engine="selector"),
}


async def do_nothing():
    pass


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_user_calls_of_the_real_machine_is_refused_by_line_and_name(name):
    call, watch = REFUSED[name], Watch()
    with pytest.raises(RealWorld) as caught:
        within(watch, call)
    line = call.__code__.co_firstlineno
    assert str(caught.value).startswith(f"{HERE}:{line}: {name}() is the real machine's")
    assert watch.refused is caught.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: time.localtime(0),
        lambda: time.strftime("%H", time.gmtime(0)),
        lambda: random.Random(7).random(),
        lambda: logging.getLogger("anysock.tests").error("hello"),
        lambda: importlib.reload(email.utils),
        lambda: os.getpid(),
    ],
)
def test_what_does_no_harm_is_let_pass(call):
    watch = Watch()
    within(watch, call)
    assert watch.refused is None


def test_a_history_that_seeds_random_may_draw_from_it_and_leaves_no_trace():
    random.seed(1)
    expected = random.getstate()

    def draw():
        random.seed(7)
        return random.random(), random.randrange(1000)

    assert within(Watch(), draw) == within(Watch(), draw)
    assert random.getstate() == expected
    with pytest.raises(RealWorld):
        within(Watch(), lambda: random.random())


def test_a_refusal_that_is_swallowed_is_kept():
    watch = Watch()

    def swallow():
        for _ in range(2):
            try:
                time.time()
            except Exception as error:  # noqa: BLE001
                errors.append(error)

    errors: list[Exception] = []
    within(watch, swallow)
    assert watch.refused is errors[0]


def test_an_installed_library_may_look_at_the_clock_and_read_its_files_but_not_open_sockets(
    tmp_path, monkeypatch
):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "some_library.py").write_text(
        textwrap.dedent("""
            import socket, time
            def look(): return time.time()
            def read(): open(__file__).close()
            def connect(): socket.socket()
        """)
    )
    monkeypatch.syspath_prepend(folder)
    import some_library  # type: ignore[import-not-found]

    within(Watch(), lambda: (some_library.look(), some_library.read()))
    with pytest.raises(RealWorld, match=r"test_guards.py:\d+: some_library.connect\(\)"):
        within(Watch(), lambda: some_library.connect())


def test_what_a_module_does_while_it_is_imported_is_let_pass(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text(
        "import time\nSTART = time.time()\nopen(__file__).close()"
    )
    monkeypatch.syspath_prepend(tmp_path)
    watch = Watch()
    within(watch, lambda: __import__("late_module"))
    assert watch.refused is None


def test_what_stands_for_the_classes_of_datetime_makes_real_ones_and_takes_them_for_its_own():
    real, real_module = datetime, dt

    def history():
        assert datetime is not real
        assert dt is not real_module
        made = datetime(2020, 1, 2, 3)
        assert type(made) is real
        assert type(datetime.fromisoformat("2020-01-02")) is real
        assert type(dt.date.fromisoformat("2020-01-02")) is real_module.date
        assert type(datetime.strptime("2020", "%Y")) is real
        assert type(made + dt.timedelta(1)) is real
        assert isinstance(made, datetime)
        assert isinstance(made, dt.date)
        assert not isinstance(dt.date(2020, 1, 1), datetime)
        assert issubclass(real, datetime)
        assert issubclass(datetime, dt.date)
        assert type(made) == datetime == real
        assert {real: 1}[datetime] == 1
        assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made
        match made:
            case datetime(year=2020):
                return made
        raise AssertionError

    assert type(within(Watch(), history)) is real
    assert datetime is real
    assert dt is real_module
    assert isinstance(within(Watch("allow"), lambda: datetime.now(dt.UTC)), real)


def test_other_threads_are_let_pass():
    watch, told = Watch(), []
    go, done = threading.Event(), threading.Event()

    def other():
        go.wait(10)
        told.append(time.time())
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    def history():
        go.set()
        done.wait(10)

    within(watch, history)
    thread.join()
    assert told


def test_after_a_history_everything_is_as_before():
    before = time.time, random.random, os.urandom, threading.Thread, taken_before
    within(Watch(), lambda: None)
    assert (time.time, random.random, os.urandom, threading.Thread, taken_before) == before
    time.time()
    open(__file__).close()


async def look_around():
    return (
        time.time(), time.time_ns() / 1e9, email.utils.formatdate(), time.strftime("%Y"),
        time.monotonic(), taken_before(), time.perf_counter_ns() / 1e9,
        datetime.now(dt.UTC), dt.datetime.utcnow(), dt.date.today(),
        random.random(), random.choice(range(1000)), secrets.token_hex(4), str(uuid.uuid4()),
    )  # fmt: skip


def test_clocks_and_chance_of_user_code_can_be_simulated():
    async def scenario(world):
        await world.sleep(10)
        host = world.host("a")
        host.clock_jump(3600)
        return await host.spawn(look_around()).join()

    def run(seed):
        return sim.World(seed, faults="none", real_world="simulate").run(scenario)

    found = run(1)
    assert found == run(1) != run(2)
    wall, wall_too, date, year, *clocks, now, utcnow, today = found[:10]
    assert wall == pytest.approx(wall_too) == pytest.approx(EPOCH + 3610, abs=0.01)
    assert (date, year) == ("Wed, 01 Jan 2020 01:00:10 -0000", "2020")
    assert clocks == pytest.approx([10] * 3, abs=0.01)
    assert now.timestamp() == pytest.approx(wall, abs=0.01)
    assert now.replace(tzinfo=None, microsecond=0) == utcnow.replace(microsecond=0)
    assert today == dt.date(2020, 1, 1)
    with pytest.raises(RealWorld, match=r"time.sleep\(\)"):
        sim.World(real_world="simulate").run(sleeps)
    with pytest.raises(RealWorld, match=r"time.time\(\).*real_world=\"simulate\"\) gives"):
        sim.World(real_world="files").run(scenario)


async def sleeps(world):
    time.sleep(0)


def read():
    return pathlib.Path(__file__).read_bytes()


def test_kinds_can_be_allowed_one_by_one():
    within(Watch("files"), read)
    within(Watch(("files", "clock")), lambda: (read(), time.time()))
    with pytest.raises(RealWorld):
        within(Watch("files"), lambda: time.time())
    with pytest.raises(anysock.UsageError, match="unknown: disk; choose"):
        Watch(("disk",))


def test_idle_guards_cost_next_to_nothing():
    """Counted in calls of Python functions, not in time: none is made between histories but the
    hook itself."""
    within(Watch(), lambda: None)
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name))
    try:
        time.time()
        random.random()
    finally:
        sys.setprofile(None)
    assert not [name for name in calls if name in ("guarded", "meet", "_whose_call")]
