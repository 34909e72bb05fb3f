"""Figures: counted once a connection, added up over workers, told to Prometheus."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as parse

from anysock.admin.prometheus import exposition
from anysock.telemetry.counters import DURATION_BUCKETS, Counters
from anysock.telemetry.events import CloseReason, EventGroup, Events
from anysock.telemetry.metrics import METRICS, Kind, add, reference, snapshot, what_remains


class FakeConnection:
    def __init__(self, received: int = 0, sent: int = 0, lasted: float | None = None) -> None:
        self.bytes_received = received
        self.bytes_sent = sent
        self.lasted = lasted


def serve(counters: Any, seconds: float, reason: CloseReason, received: int, sent: int) -> None:
    connection = FakeConnection(received, sent, seconds)
    counters.connection_accepted(connection, 100.0)
    counters.connection_closed(connection, reason, None)


@pytest.mark.parametrize(
    ("seconds", "place"),
    [(0.0, 0), (0.0009, 0), (0.002, 1), (0.4, 3), (59, 7), (61, 8), (86_400, 12), (86_401, 13)],
)
def test_each_duration_has_its_bucket(seconds, place):
    counters = Counters()
    serve(counters, seconds, CloseReason.DONE, 0, 0)
    assert counters.durations[place] == 1
    assert sum(counters.durations) == 1
    assert counters.seconds == pytest.approx(seconds)


ENDS = st.tuples(
    st.integers(0, 2),  # the worker
    st.floats(0, 200_000),
    st.sampled_from(CloseReason),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
)


@given(st.lists(ENDS, max_size=30))
def test_the_figures_of_workers_add_up_to_those_of_one(ends):
    one, workers = Counters(), [Counters() for _ in range(3)]
    for worker, *end in ends:
        serve(one, *end)
        serve(workers[worker], *end)
    whole = snapshot(one, None, lag=0.0)
    parts = [json.loads(json.dumps(snapshot(each, None, lag=0.0))) for each in workers]
    summed = add(parts)
    assert summed.pop("workers") == 3
    assert whole.pop("workers") == 1
    assert summed.pop("seconds") == pytest.approx(whole.pop("seconds"))
    assert summed == whole
    assert sum(whole["durations"]) == sum(whole["closed"].values()) == len(ends)


def test_what_can_not_be_summed_is_the_largest():
    assert add([{"lag": 0.1, "most_connections": 9}, {"lag": 0.7, "most_connections": 9}]) == {
        "lag": 0.7,
        "most_connections": 9,
    }
    assert add([]) == {}


def test_what_a_dead_worker_has_done_still_counts():
    counters = Counters()
    serve(counters, 1.0, CloseReason.DONE, 10, 20)
    counters.connection_accepted(FakeConnection(5, 5), 0.0)  # type: ignore[arg-type]
    dead = what_remains(snapshot(counters, None, lag=3.0, stuck=1))
    assert not dead.keys() & {"lag", "stuck", "connections", "workers"}
    living = snapshot(Counters(), None, lag=0.0, stuck=0)
    both = add([living, dead])
    assert (both["accepted"], both["bytes_received"], both["bytes_sent"]) == (2, 15, 25)
    assert (both["connections"], both["workers"], both["stuck"]) == (0, 1, 0)


def test_limits_are_counted_whether_they_make_wait_or_close():
    counters = Counters()
    counters.client_waited("max_connections")
    serve(counters, 0, CloseReason.OVERFLOW, 0, 0)
    serve(counters, 0, CloseReason.IDLE, 0, 0)
    serve(counters, 0, CloseReason.DONE, 0, 0)
    met = snapshot(counters, None)["limits_met"]
    assert {name: count for name, count in met.items() if count} == {
        "max_connections": 2,
        "idle_timeout": 1,
    }


def test_bytes_of_open_connections_count_and_no_counter_goes_back():
    counters, connection = Counters(), FakeConnection(100, 7)
    counters.connection_accepted(connection, 0.0)  # type: ignore[arg-type]
    assert counters.figures()["bytes_received"] == 100
    connection.bytes_received = 60  # 40 of them were the header of a proxy
    assert counters.figures()["bytes_received"] == 100
    connection.bytes_received = 160
    assert counters.figures()["bytes_received"] == 160
    counters.connection_closed(connection, CloseReason.DONE, None)  # type: ignore[arg-type]
    assert counters.figures()["bytes_received"] == 160
    assert counters.figures()["bytes_sent"] == 7


def test_figures_are_whole_while_others_come_and_go():
    """10 bytes a connection: whoever looks sees whole connections, and never fewer than before."""
    counters = Counters()
    over = threading.Event()

    def come_and_go() -> None:
        for _ in range(2000):
            serve(counters, 0.001, CloseReason.DONE, 10, 10)

    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    seen: list[dict[str, Any]] = []

    def look() -> None:
        while not over.is_set():
            seen.append(counters.figures())

    looker = threading.Thread(target=look)
    for thread in [looker, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    looker.join()
    seen.append(counters.figures())
    for before, after in itertools.pairwise(seen):
        assert before["bytes_received"] <= after["bytes_received"]
    for each in seen:
        assert each["accepted"] == each["connections"] + sum(each["closed"].values())
        assert each["bytes_received"] == 10 * each["accepted"]
    assert seen[-1]["accepted"] == 4000


def test_prometheus_reads_what_it_is_told():
    counters = Counters()
    serve(counters, 0.2, CloseReason.DONE, 10, 20)
    serve(counters, 90_000, CloseReason.LOST, 1, 2)
    everything = snapshot(counters, None, lag=0.5, highest_lag=0.75, stuck=0, most_connections=100)
    assert {metric.key for metric in METRICS} <= everything.keys()
    text = exposition(everything).decode()
    check_families({family.name: family for family in parse(text)})


def check_families(families: dict[str, Any]) -> None:
    for metric in METRICS:
        family = families.pop(metric.name)
        assert family.type == metric.kind.value
        assert family.documentation == metric.help
        if metric.kind is Kind.HISTOGRAM:
            values = {
                sample.labels.get("le", sample.name): sample.value for sample in family.samples
            }
            assert values["0.1"] == 0
            assert values["0.5"] == values["86400.0"] == 1
            assert values["+Inf"] == values[f"{metric.name}_count"] == 2
            assert values[f"{metric.name}_sum"] == pytest.approx(90_000.2)
            assert len(values) == len(DURATION_BUCKETS) + 3
        elif metric.label:
            assert all(set(sample.labels) == {metric.label} for sample in family.samples)
    assert not families


def test_the_reference_is_up_to_date():
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    assert page.read_text() == reference(), "run: make docs/reference/metrics.md"


def test_several_listeners_hear_each_event_in_their_order():
    heard: list[str] = []

    class Ear(Events):
        def __init__(self, name: str) -> None:
            self.name = name

        def drained(self, aborted: int, seconds: float) -> None:
            heard.append(f"{self.name} {aborted}")

    both = EventGroup(Ear("a"), Events(), EventGroup(Ear("b"), Ear("c")))
    both.drained(3, 0.5)
    both.accepting_paused()
    assert heard == ["a 3", "b 3", "c 3"]
