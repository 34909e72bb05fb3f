"""When a worker is started again, and when that is given up; and what becomes of a reload."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anysock.workers.reload import Reload
from anysock.workers.restart_policy import (
    FIRST_BACK_OFF_SECONDS,
    MAX_BACK_OFF_SECONDS,
    MAX_FAILURES,
    QUICK_SECONDS,
    RestartPolicy,
)


def test_the_delay_doubles_up_to_its_maximum():
    policy, delays = RestartPolicy(), []
    for _ in range(10):
        policy.not_started("no memory", now=100.0)
        assert policy.start_at is not None
        delays.append(round(policy.start_at - 100, 1))
        assert not policy.may_start(policy.start_at - 0.01)
        assert policy.may_start(policy.start_at)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert policy.started() == 10
    assert policy.may_start(0.0)
    policy.not_started("no memory", now=100.0)
    assert policy.start_at == 100 + FIRST_BACK_OFF_SECONDS


def test_a_cause_is_new_once_in_a_row():
    policy = RestartPolicy()
    assert [policy.not_started(each, 0) for each in "aabba"] == [True, False, True, False, True]
    policy.started()
    assert policy.not_started("a", 0)


def test_a_worker_that_has_worked_is_started_again_at_once():
    policy = RestartPolicy()
    assert policy.died(served=True, age=QUICK_SECONDS / 2, now=0)
    assert not policy.died(served=True, age=QUICK_SECONDS, now=9.0)
    assert policy.quick_deaths == 0
    assert policy.died(served=False, age=1000.0, now=9.0), "it never served"


def test_it_gives_up_where_that_harms_nobody():
    policy = RestartPolicy()
    for number in range(MAX_FAILURES):
        assert not policy.gives_up(complete_once=False, serving=False), number
        policy.not_started("no memory", 0)
    assert policy.gives_up(complete_once=False, serving=False)
    # What can't be started may be startable later, once all have served.
    assert not policy.gives_up(complete_once=True, serving=False)
    for _ in range(MAX_FAILURES):
        policy.died(served=False, age=0.1, now=0)
    assert policy.gives_up(complete_once=True, serving=False)
    assert not policy.gives_up(complete_once=True, serving=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["not started", "died", "started"]),
            st.booleans(),
            st.floats(0, 10),
            st.floats(0, 60),
        )
    )
)
def test_no_delay_is_longer_than_the_maximum_nor_in_the_past(happenings):
    policy, now = RestartPolicy(), 0.0
    for what, served, age, later in happenings:
        now += later
        if what == "not started":
            policy.not_started(what, now)
        elif what == "died":
            policy.died(served=served, age=age, now=now)
        else:
            policy.started()
            assert policy.may_start(now)
        assert policy.start_at is None or policy.start_at <= now + MAX_BACK_OFF_SECONDS
        assert policy.may_start(now + MAX_BACK_OFF_SECONDS)


def worker(generation: int, *, ready: bool = True) -> Any:
    return SimpleNamespace(generation=generation, ready=ready)


def test_a_reload_makes_all_workers_old_and_is_told_once():
    reload = Reload()
    workers = [worker(0), worker(0)]
    assert reload.old(workers) == []
    reload.ask()
    reload.begin()
    assert reload.old([*workers, worker(1)]) == workers
    assert [reload.end(), reload.end()] == [True, False]


def test_a_reload_fails_with_the_first_new_worker_that_can_not_begin():
    reload = Reload()
    workers = [worker(0), worker(0)]
    reload.begin()
    assert not reload.ends_with(worker(0), workers), "an old one that dies is no failure"
    assert not reload.ends_with(worker(1), workers), "it has served"
    assert reload.ends_with(worker(1, ready=False), workers)
    assert reload.old(workers) == [], "they stay"
    assert not reload.ends_with(worker(1, ready=False), workers), "no reload is under way"
