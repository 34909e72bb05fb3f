"""The slots that workers share, also while one of them is stopped with the lock in its hands."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from anysock.errors import StartError
from anysock.workers import slots
from anysock.workers.slots import SharedSlots, SlotTable
from tests.harness import PATIENCE

HOLD = """
import fcntl, os, signal, sys
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def table():
    table = SlotTable()
    yield table
    table.close()


@pytest.fixture
def held(table):
    """Another process has the lock, and is stopped."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(table.fd)], pass_fds=[table.fd], stdin=subprocess.DEVNULL
    )
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    yield holder
    holder.kill()
    holder.wait()


def slots_of(table: SlotTable, most: int, workers: int = 2) -> tuple[list[SharedSlots], list[int]]:
    """As several workers have them; and who of them has told that there is room."""
    told: list[int] = []
    return [
        SharedSlots(table, line, most, 100, lambda line=line: told.append(line))  # type: ignore[misc]
        for line in range(workers)
    ], told


def test_no_folder_that_can_be_written_to_is_needed(monkeypatch):
    """A container's file system is often read-only."""

    def refuse(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    if hasattr(os, "memfd_create"):
        SlotTable().close()
        monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(StartError, match="--workers: can't have memory for all of them: "):
        SlotTable()


def test_one_number_for_all(table):
    (one, other), told = slots_of(table, 3)
    assert [one.take(), other.take(), one.take(), other.take(), one.take()] == [
        *[True] * 3,
        *[False] * 2,
    ]
    assert one.full
    other.give_back()
    assert told == [1], "there was none left: now there is"
    one.give_back()
    assert told == [1]
    assert table.total() == 1
    table.clear(0)
    assert table.total() == 0


def test_a_worker_has_no_more_than_its_descriptors(table):
    one = SharedSlots(table, 0, 10, 2, lambda: None)
    assert [one.take() for _ in range(3)] == [True, True, False]
    assert one.full
    assert table.total() == 2


def test_nobody_waits_for_one_that_is_stopped_with_the_lock(table, held):
    (one, other), told = slots_of(table, 3)
    begun = time.monotonic()
    for _ in range(500):
        assert [one.take(), other.take(), one.take(), other.take()] == [True] * 3 + [False]
        other.give_back()
        one.give_back()
        one.give_back()
    assert time.monotonic() - begun < PATIENCE
    assert table.total() == 0
    assert len(told) == 1500, "who can't know whether there was none left says that there is room"
    table.clear(1)


def test_then_they_take_turns_again(table, held):
    (one, _), told = slots_of(table, 3)
    assert one.take()
    held.send_signal(signal.SIGCONT)
    held.wait(PATIENCE)
    one.give_back()
    assert not told
    with table.locked() as (_, alone):
        assert alone


@pytest.mark.parametrize("before", [True, False], ids=["before the look", "after the look"])
def test_there_are_never_too_many_though_nobody_has_the_lock(table, held, monkeypatch, before):
    """Two processes want the last slot. The second comes while the first looks whether it is
    free."""
    tables = [SlotTable(os.dup(table.fd)) for _ in range(2)]
    one, other = (SharedSlots(tables[line], line, 3, 100, lambda: None) for line in range(2))
    assert one.take()
    assert one.take()
    others: list[bool] = []

    def look(counts):
        monkeypatch.delattr(slots, "sum")
        seen = 0 if before else sum(counts)
        others.append(other.take())
        return sum(counts) if before else seen

    monkeypatch.setattr(slots, "sum", look, raising=False)
    got_it = one.take()
    for each in tables:
        each.close()
    assert got_it + others[0] == table.total() - 2 <= 1
