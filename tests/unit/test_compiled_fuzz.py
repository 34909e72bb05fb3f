"""The compiled path, given what nobody gives it: it raises, and never takes the process along."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from anysock.machine import compiled

pytestmark = pytest.mark.skipif(
    compiled.fast is None, reason=f"there is no compiled path: {compiled.why_not}"
)

# Each does what a random number says: slots are damaged or deleted, receives, and looks for lines,
# are begun, gone on with from within and from without, thrown into, closed and dropped, in any
# order, by streams that are open, aborted, closed or forgotten.
COMMON = """
import contextlib, faulthandler, gc, random, socket, sys
faulthandler.enable()
import anysock
from anysock import _fast
from anysock.engines.current import current_engine
from anysock.engines.nonblocking.sockets import _STREAM
from anysock.loop.kernel import Kernel
from anysock.loop.tasks import Task

rng = random.Random(int(sys.argv[1]))
done = wrong = 0
ODD = [None, -1, -7, 2**70, -(2**70), 1.5, "x", b"x", object(), [], (), True, Exception("odd")]
FDS = {"_fd", "_write_fd"}  # with a number they would lead to somebody else's descriptor


def attempt(action, *arguments):
    global done, wrong
    try:
        result = action(*arguments)
    except SystemError as error:  # what Python says of an extension that has it wrong
        wrong += 1
        print("SystemError:", error, action, arguments)
        return None
    except BaseException:
        return None
    done += 1
    return result


def damage(thing, names):
    name = rng.choice(names)
    odd = rng.choice([*ODD, "delete"])
    if odd == "delete":
        attempt(delattr, thing, name)
    elif not (name in FDS and isinstance(odd, int) and odd >= 0):
        attempt(setattr, thing, name, odd)
"""

STREAMS = (
    COMMON
    + """
SLOTS = [slot for each in _STREAM.__mro__ for slot in getattr(each, "__slots__", ())
         if slot not in ("_sock", "descriptor", "_watch", "_engine")]
SLOTS += [name for name in vars(_fast.Fields) if name not in ("_begin", "__new__", "__doc__")]


async def main():
    kernel, engine = current_engine()._kernel, current_engine()
    for _ in range(300):
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        stream = _STREAM(engine, kernel, near, "unix")
        connection = anysock.Connection(stream)
        descriptor = stream.descriptor
        receives = []

        class Hostile:
            # Asked for a number, it uses the stream that asks.
            def __index__(self):
                attempt(stream.send_all, b"within")
                if receives:
                    attempt(rng.choice(receives).close)
                return 5

        class Lines(_fast.Lines):
            # This takes what is no line, and goes on where something is buffered.
            def _otherwise(self, data=None):
                if receives:
                    attempt(rng.choice(receives).close)
                return rng.choice([stream.recv(), *receives, *ODD])

            _next = _otherwise

        task = Task(kernel, stream.recv(), "never run")

        for _ in range(rng.randrange(40)):
            match rng.randrange(13):
                case 0:
                    with contextlib.suppress(OSError):
                        far.send(rng.randbytes(rng.choice([1, 100, 20_000, 90_000])))
                case 1 | 2:
                    asked = rng.choice([None, None, 1, 5, 0, 70_000, Hostile(), *ODD])
                    of = rng.choice([stream, connection])
                    if (made := attempt(of.recv, asked)) is not None:
                        receives.append(made)
                case 11:
                    attempt(connection.unread, rng.choice([b"", b"", b"x\\n"]))
                    of = rng.choice([connection, connection, *ODD])
                    lines = attempt(Lines, of, rng.choice([5, 100, -1, *ODD]))
                    if lines is not None and hasattr(made := attempt(lines.__anext__), "throw"):
                        receives.append(made)
                case 12:
                    awaited = rng.choice([*receives, stream.recv(), *ODD])
                    made = attempt(_fast.straight, rng.choice([task, task, *ODD]), awaited)
                    if hasattr(made, "throw"):
                        receives.append(made)
                    if rng.random() < 0.2:
                        damage(task, ["_result"])
                case 3 | 4 if receives:
                    attempt(rng.choice(receives).send, rng.choice([None, 1]))
                case 5 if receives:
                    attempt(rng.choice(receives).throw, rng.choice([ValueError, *ODD]))
                case 6 if receives:
                    attempt(rng.choice(receives).close)
                case 7 if receives:
                    receives.pop(rng.randrange(len(receives)))
                case 8:
                    data = rng.choice([b"", b"x", bytearray(9), memoryview(b"abc")[::2],
                                       bytes(300_000), [b"a", b"b"], *ODD])
                    made = attempt(rng.choice([stream, connection]).send_all, data)
                    if hasattr(made, "close"):
                        attempt(made.close)
                case 9 if rng.random() < 0.4:
                    damage(stream, SLOTS)
                    if rng.random() < 0.1:
                        damage(connection, ["_stream", "_buffer"])
                case 10 if rng.random() < 0.1:
                    attempt(stream.abort)
        order = [lambda: receives.clear(), far.close, gc.collect, descriptor.close, near.close]
        rng.shuffle(order)
        for each in order:
            each()
        del stream, descriptor, connection


anysock.run(main, engine="selector")
print("done", done, "wrong", wrong)
"""
)

TURNS = (
    COMMON
    + """
import contextvars, select

TASK_SLOTS = list(Task.__slots__)


async def steps(kernel, epoll):
    for _ in range(rng.randrange(4)):
        if rng.random() < 0.3:
            attempt(_fast.turn, kernel, epoll.fileno(), 0.0)  # from within itself
        await Pause()


class Pause:
    def __await__(self):
        yield rng.choice([self, None, 7])


for _ in range(300):
    kernel = Kernel()
    epoll = select.epoll()
    ends = [socket.socketpair() for _ in range(rng.randrange(1, 5))]
    for near, far in ends:
        far.send(b"x")
        epoll.register(near, rng.choice([select.EPOLLIN, select.EPOLLIN | select.EPOLLOUT]))
        task = kernel.spawn(steps(kernel, epoll))
        if rng.random() < 0.4:
            damage(task, TASK_SLOTS)
        kernel.readers[near.fileno()] = rng.choice([task, task, task, None, 7, object()])
    if rng.random() < 0.3:
        damage(kernel, ["readers", "current", "watchdog_wakeup", "asleep", "descriptors", "tasks"])
    for _ in range(rng.randrange(1, 4)):
        attempt(_fast.turn, kernel, epoll.fileno(), rng.choice([0.0, 0.0, 0.001, -1.0]))
    epoll.close()
    attempt(_fast.turn, kernel, -1, 0.0)
    for near, far in ends:
        near.close()
        far.close()
    kernel.close()
    for task in list(kernel._ready):
        attempt(lambda: task.coro.close())
    del kernel
gc.collect()
print("done", done, "wrong", wrong)
"""
)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("program", [STREAMS, TURNS], ids=["streams", "turns"])
def test_nothing_that_it_is_given_takes_the_process_along(program, seed):
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(seed)],
        env={key: each for key, each in os.environ.items() if key != "ANYSOCK_PURE"},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert told.returncode == 0, (told.returncode, told.stdout[-3000:], told.stderr[-3000:])
    assert (end := re.search(r"^done (\d+) wrong 0$", told.stdout, re.MULTILINE)), told.stdout
    assert int(end[1]) > 300
