from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from anysock.machine.descriptors import ReserveDescriptor
from anysock.server.accept_policy import AcceptAction, OncePer, decide

TABLE = {
    AcceptAction.RETRY: "ECONNABORTED ECONNRESET EINTR EAGAIN EWOULDBLOCK EPROTO EPERM ENETDOWN "
    "ENOPROTOOPT EHOSTDOWN EHOSTUNREACH EOPNOTSUPP ENETUNREACH ETIMEDOUT",
    AcceptAction.BACK_OFF: "EMFILE ENFILE ENOBUFS ENOMEM",
    AcceptAction.STOP: "EBADF EINVAL ENOTSOCK EFAULT",
}


@pytest.mark.parametrize(
    ("name", "action"),
    [(name, action) for action, names in TABLE.items() for name in names.split()],
)
def test_the_table(name, action):
    assert decide(OSError(getattr(errno, name), name)) is action


@pytest.mark.skipif(not hasattr(errno, "ENONET"), reason="Linux alone has it")
def test_a_machine_that_is_not_on_the_network_goes_on_accepting():
    assert decide(OSError(errno.ENONET, "ENONET")) is AcceptAction.RETRY


def test_an_error_without_a_number_stops():
    assert decide(OSError("strange")) is AcceptAction.STOP


def test_once_per_interval_and_a_count_of_the_others():
    once = OncePer(1.0)
    assert [once.allow(now / 4) for now in range(10)] == [
        0, None, None, None, 3, None, None, None, 3, None,
    ]  # fmt: skip


def test_the_reserve_is_there_when_nothing_else_is():
    """In a process of its own, whose descriptors are all used up."""
    program = """
import os, resource
from anysock.machine.descriptors import ReserveDescriptor
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
reserve = ReserveDescriptor()
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError as error:
    print(error.strerror)
for _ in range(3):
    with reserve.spent():
        os.close(os.open(os.devnull, os.O_RDONLY))
        print("one more")
# Somebody takes it while it is spent; once there is room again, it is taken back.
with reserve.spent():
    taken.append(os.open(os.devnull, os.O_RDONLY))
os.close(taken.pop())
with reserve.spent():
    pass
try:
    os.open(os.devnull, os.O_RDONLY)
except OSError as error:
    print("taken back:", error.strerror)
reserve.close()
reserve.close()
os.close(os.open(os.devnull, os.O_RDONLY))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "Too many open files",
        *["one more"] * 3,
        "taken back: Too many open files",
    ]


def test_overlapping_blocks_keep_one_descriptor():
    reserve = ReserveDescriptor()
    fds = len(os.listdir("/proc/self/fd"))
    with reserve.spent(), reserve.spent():
        pass
    assert len(os.listdir("/proc/self/fd")) == fds
    reserve.close()
    assert len(os.listdir("/proc/self/fd")) == fds - 1


def test_a_closed_reserve_is_not_taken_again():
    reserve = ReserveDescriptor()
    fds = len(os.listdir("/proc/self/fd"))
    reserve.close()
    with reserve.spent():
        pass
    assert len(os.listdir("/proc/self/fd")) == fds - 1
