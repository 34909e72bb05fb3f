"""The words between the supervisor and a worker, where one of them does not listen."""

from __future__ import annotations

import select
import threading
from typing import Any

import pytest

from anysock.workers.control import ToSupervisor, ToWorker, pair


@pytest.fixture
def ends():
    ours, sock = pair()
    theirs = ToSupervisor(sock)
    yield ours, theirs
    ours.sock.close()
    theirs.sock.close()


def heard(worker: ToSupervisor, supervisor: ToWorker) -> list[dict[str, Any]]:
    """All that the worker gets to hear, once it listens."""
    found: list[dict[str, Any]] = []
    worker.sock.setblocking(False)
    while messages := worker.receive():
        found += messages
        supervisor.flush()
    return found


def fill(control: ToWorker) -> int:
    """Hint until nothing more goes; how often it did."""
    hints = 0
    while control.send_if_ready(do="room"):
        hints += 1
    return hints


def test_words_go_both_ways(ends):
    ours, theirs = ends
    ours.send(do="pause")
    theirs.send(ready=True)
    assert theirs.receive() == [{"do": "pause"}]
    assert ours.receive() == [{"ready": True}]
    assert ours.receive() == []
    theirs.sock.close()
    assert ours.receive() is None


def test_the_supervisor_waits_for_no_worker_and_what_it_tells_is_kept(ends):
    ours, theirs = ends
    hints = fill(ours)
    assert hints > 0
    ours.send(do="udp", udp_rate=1.5, udp_total_rate=2.5)
    ours.send(do="end")
    assert ours.has_outbox
    assert heard(theirs, ours) == [
        *[{"do": "room"}] * hints,
        {"do": "udp", "udp_rate": 1.5, "udp_total_rate": 2.5},
        {"do": "end"},
    ]
    assert not ours.has_outbox


def test_a_hint_never_overtakes_what_is_told(ends):
    ours, theirs = ends
    fill(ours)
    ours.send(do="pause")
    assert theirs.receive()
    assert not ours.send_if_ready(do="room")
    ours.flush()
    assert ours.send_if_ready(do="room")
    assert heard(theirs, ours)[-2:] == [{"do": "pause"}, {"do": "room"}]


def test_a_job_of_any_size_reaches_a_worker_that_is_slow_to_start(ends):
    ours, theirs = ends
    job = {"handler": bytes(3_000_000)}
    ours.send_job(job)
    assert ours.has_outbox
    received: list[object] = []
    reader = threading.Thread(target=lambda: received.append(theirs.receive_job()))
    reader.start()
    while ours.has_outbox:
        ours.flush()
    reader.join(15)
    assert received == [job]


def test_a_worker_waits_for_no_supervisor_when_it_only_hints(ends):
    ours, theirs = ends
    for _ in range(5000):
        theirs.send_if_ready(freed=True)
    found = []
    while messages := ours.receive():
        found += messages
    assert 0 < len(found) < 5000
    assert all(message == {"freed": True} for message in found)
    theirs.send_if_ready(freed=True)
    assert ours.receive() == [{"freed": True}]


def test_a_hint_waits_for_no_other_thread_that_waits_for_the_supervisor(ends):
    """Which may be stopped while it is told something long, such as who is connected."""
    ours, theirs = ends
    teller = threading.Thread(target=theirs.send, kwargs={"value": "x" * 3_000_000}, daemon=True)
    teller.start()
    select.select([ours.sock], [], [])
    hinting = threading.Thread(target=theirs.send_if_ready, kwargs={"freed": True}, daemon=True)
    hinting.start()
    hinting.join(15)
    assert not hinting.is_alive()
    found: list[dict[str, Any]] = []
    while not found:
        select.select([ours.sock], [], [])
        found += ours.receive()
    teller.join(15)
    assert found == [{"value": "x" * 3_000_000}]


def test_to_one_that_is_gone_nothing_is_told(ends):
    ours, theirs = ends
    theirs.sock.close()
    ours.send(do="end")
    assert not ours.send_if_ready(do="room")
    assert not ours.has_outbox
