"""What the live page and `anysock top` are told, of servers in this process."""

from __future__ import annotations

import json
from typing import Any

import pytest

import anysock
from anysock.admin import ServerFigures, admin_server
from anysock.admin.figures import HELD_UP_SECONDS
from anysock.admin.history import KEEP_SECONDS, History
from anysock.admin.places import MAX_SEATS
from anysock.admin.query import SORTS, LiveQuery
from anysock.admin.watching import LEASE_SECONDS, STEP_BUCKETS, Rates, StepTimes, percentile, table
from anysock.loop.watchdog import stack_of_step
from anysock.telemetry.counters import Counters
from anysock.telemetry.metrics import snapshot
from tests.harness import CONCURRENT_ENGINES, SIMULATED

every_concurrent_engine = pytest.mark.parametrize(
    "concurrent_engine", [*CONCURRENT_ENGINES, *SIMULATED]
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def ask(address: str, target: str, method: str = "GET") -> tuple[int, Any]:
    async with await anysock.connect(address) as client:
        request = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await client.send_all(request.encode())
        answer = b"".join([chunk async for chunk in client])
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    return status, json.loads(body) if b"application/json" in head else body.decode()


@every_concurrent_engine
def test_connections_are_sorted_filtered_paged_and_ended(concurrent_engine):
    async def main() -> None:
        server = anysock.Server("echo", bind="127.0.0.1:0")
        admin = admin_server("127.0.0.1:0", ServerFigures(server), write=True)
        async with server, admin:
            at = admin.addresses[0]
            clients = [await anysock.connect(server.addresses[0]) for _ in range(5)]
            for size, client in enumerate(clients, start=1):
                await client.send_all(b"x" * size)
                await client.recv_exactly(size)
            _, found = await ask(at, "/live?sort=bytes_in&first=1&most=3&since=0")
            assert (found["version"], found["open"], found["matching"]) == (1, 5, 5)
            assert found["write"] is True
            assert found["ready"] is None
            assert [each["bytes_in"] for each in found["connections"]] == [4, 3, 2]
            name = found["connections"][0]["id"]
            peer = clients[3].local
            assert found["connections"][0]["peer"] == f"127.0.0.1:{peer[1]}"
            _, found = await ask(at, f"/live?filter=:{peer[1]}&order=asc")
            assert [each["id"] for each in found["connections"]] == [name]
            assert (found["open"], found["matching"]) == (5, 1)
            for sort in SORTS:
                _, found = await ask(at, f"/live?sort={sort}&order=asc")
                assert len(found["connections"]) == 5
                assert (await ask(at, f"/live?sort={sort}"))[1]["open"] == 5
            assert (await ask(at, f"/end?connection={name}", "POST")) == (200, "ended\n")
            with pytest.raises((OSError, anysock.EndOfStream)):
                await clients[3].recv_exactly(1)
            while len(server.connections) == 5:
                await anysock.sleep(0.01)
            assert (await ask(at, f"/end?connection={name}", "POST"))[0] == 404
            assert server.counters.closed[anysock.CloseReason.ABORTED] == 1
            for client in clients:
                await client.close()

    anysock.run(main, engine=concurrent_engine)


async def has_seat(address: str) -> bool:
    async with await anysock.connect(address) as client:
        await client.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return (await client.recv_line()).split()[1] == b"200"


@every_concurrent_engine
def test_a_feed_goes_on_and_its_seats_are_few(concurrent_engine, monkeypatch):
    # Not so fast that the server would not come to rest.
    monkeypatch.setattr("anysock.admin.http.EVERY_SECONDS", 0.3)

    async def main() -> None:
        server = anysock.Server("echo", bind="127.0.0.1:0")
        admin = admin_server("127.0.0.1:0", ServerFigures(server))
        async with server, admin:
            viewers = [await anysock.connect(admin.addresses[0]) for _ in range(MAX_SEATS)]
            for viewer in viewers:
                await viewer.send_all(b"GET /events?most=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            times = set()
            for _ in range(2):
                for viewer in viewers:
                    await viewer.recv_until(b"data: ", max_bytes=100_000)
                    told = json.loads(await viewer.recv_until(b"\n\n", max_bytes=100_000))
                    assert (told["version"], told["write"]) == (1, False)
                    times.add(told["time"])
            assert len(times) > 1
            assert await ask(admin.addresses[0], "/events") == (503, "too many look already\n")
            assert (await ask(admin.addresses[0], "/readyz"))[0] == 200
            await viewers[0].close()
            # Its seat is free as soon as it can't be told any more.
            while not await has_seat(admin.addresses[0]):
                await anysock.sleep(0.05)
            for viewer in viewers:
                viewer.abort()  # else a close would wait for the end of what it is told
                await viewer.close()

    anysock.run(main, engine=concurrent_engine)


@pytest.mark.parametrize("own_engine", ["selector", "polling"])
def test_steps_are_timed_only_while_somebody_looks(own_engine):
    clock = Clock()

    async def main() -> None:
        server = anysock.Server("echo", bind="127.0.0.1:0")
        figures = ServerFigures(server, clock)
        async with server:
            assert figures.live(LiveQuery(watch=False))["steps"] is None
            figures.live(LiveQuery())
            while figures.live(LiveQuery(watch=False))["steps"] is None:
                await anysock.sleep(0.05)
            before = sum(figures.live(LiveQuery(watch=False))["steps"])
            # (They are timed in a fifth of the time.)
            while sum(figures.live(LiveQuery())["steps"]) < before + 10:
                await anysock.sleep(0.001)
            clock.now += LEASE_SECONDS
            while figures.live(LiveQuery(watch=False))["steps"] is not None:
                await anysock.sleep(0.05)

    anysock.run(main, engine=own_engine)


@pytest.mark.parametrize("held_up", [each for each in CONCURRENT_ENGINES if each != "threads"])
def test_an_engine_that_is_held_up_is_shown_with_its_stack(held_up):
    clock = Clock()

    async def main() -> None:
        server = anysock.Server("echo", bind="127.0.0.1:0")
        figures = ServerFigures(server, clock)
        async with server:
            await anysock.sleep(0.02)
            assert figures.live(LiveQuery())["held_up"] == []
            clock.now += 0.25 + HELD_UP_SECONDS
            [held] = figures.live(LiveQuery())["held_up"]
            assert held["seconds"] == pytest.approx(HELD_UP_SECONDS)
            assert "figures.live(LiveQuery())" in held["stack"]
            # Of its task, and not of the loop. (Under trio, `main` is called by our own.)
            assert held["stack"].splitlines()[0].split(", ")[-1] in ("in main", "in _main")

    anysock.run(main, engine=held_up)


def test_the_stack_of_a_thread_that_has_ended_is_empty():
    assert stack_of_step(0) == ""


# -- figures ------------------------------------------------------------------------------------


def test_a_percentile_is_no_more_than_a_fifth_too_high():
    times = StepTimes()
    for number in range(1, 1001):
        times.task_stepped(None, number * 1e-5)  # type: ignore[arg-type]
    for share in (0.5, 0.9, 0.99):
        assert 1 <= (percentile(times.counts, share) or 0) / (share * 1e-2) <= 1.19
    assert percentile([0] * len(times.counts), 0.99) is None
    times.task_stepped(None, 1e6)  # type: ignore[arg-type]
    assert percentile(times.counts, 1 - 1e-9) == STEP_BUCKETS[-1]


class Peer:
    """What `Rates` asks of a connection."""

    def __init__(self, name: str) -> None:
        self.id = name
        self.bytes_received = self.bytes_sent = 0


def test_rates_are_of_a_second_or_two_however_often_they_are_asked():
    rates = Rates()
    old, new = Peer("1"), Peer("2")
    both: Any = [(old, 0.0)]
    rates.mark(100.0, both)
    assert rates.of("1", 100.0, 0.0, (0, 0)) == (None, None)
    for tenth in range(1, 41):
        old.bytes_received += 100
        old.bytes_sent += 50
        if tenth == 35:
            both.append((new, 103.5))
        now = 100 + tenth / 10
        rates.mark(now, both)
        if tenth > 10:
            rate_in, rate_out = rates.of("1", now, 0.0, (old.bytes_received, old.bytes_sent))
            assert rate_in == pytest.approx(1000)
            assert rate_out == pytest.approx(500)
    # One that is new has its rate from its beginning.
    assert rates.of("2", 104.0, 103.5, (50, 0))[0] == pytest.approx(100)


class Silent:
    """The stream of a connection that says nothing."""

    sending, receiving = False, True


class Stub:
    """What `table` asks of a connection."""

    via = tls = None
    stream = Silent()

    def __init__(self, number: int) -> None:
        self.id = f"1-{number}"
        self.peer = ("192.0.2.1", number)
        self.bytes_received = number * 7919 % 10_000
        self.bytes_sent = 0


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("sort", SORTS)
def test_of_10000_connections_rows_are_made_of_those_that_are_shown(sort, order):
    made: list[str] = []
    query = LiveQuery.parse(f"sort={sort}&order={order}&first=20&most=10")

    def describe(connection: Any, seconds: float) -> dict[str, Any]:
        made.append(connection.id)
        return {
            "id": connection.id, "peer": f"192.0.2.1:{connection.peer[1]}", "via": None,
            "tls": None, "waits_for": "receive", "seconds": seconds,
            "bytes_in": connection.bytes_received, "bytes_out": 0,
        }  # fmt: skip

    connections: Any = [(Stub(number), float(number)) for number in range(10_000)]
    matching, rows = table(query, connections, 20_000.0, Rates(), describe)
    assert (matching, len(rows), len(made)) == (10_000, 30, 30)
    shown = query.page(rows)
    assert len(shown) == 10
    # The same as if all were described.
    nobody = {"rate_in": None, "rate_out": None}
    everyone = [describe(each, 20_000.0 - at) | nobody for each, at in connections]
    assert shown == query.page(everyone)
    only = LiveQuery.parse(f"sort={sort}&order={order}&filter=:7331")
    assert table(only, connections, 20_000.0, Rates(), describe)[0] == 1


class Told:
    """`Figures` of one server, as a test makes them up."""

    def __init__(self) -> None:
        self.figures = snapshot(Counters(), None, lag=0.25)
        self.steps: list[int] | None = None

    def live(self, query: LiveQuery) -> dict[str, Any]:
        assert not query.watch
        return {"figures": dict(self.figures), "steps": self.steps}


def test_history_has_rates_ends_by_reason_and_ten_minutes():
    told = Told()
    history = History(told)  # type: ignore[arg-type]
    history.take(0.0, 5000.0)
    assert history.since(0) == []
    told.figures |= {"accepted": 20, "bytes_received": 300, "connections": 7}
    told.figures["closed"] = told.figures["closed"] | {"done": 3, "lost": 1}
    told.steps = [0] * (len(STEP_BUCKETS) + 1)
    history.take(2.0, 5002.0)
    [sample] = history.since(0)
    assert sample == {
        "time": 5002.0, "connections": 7, "accepted": 10, "bytes_in": 150, "bytes_out": 0,
        "ends": {"done": 1.5, "lost": 0.5}, "lag": 0.25, "p99": None, "workers": 1,
    }  # fmt: skip
    told.steps = [100, *told.steps[1:]]
    for second in range(3, 2000):
        history.take(second, 5000.0 + second)
        # The steps are those of ten seconds.
        assert history.since(0)[-1]["p99"] == (1e-6 if second <= 12 else None)
    assert history.since(5002.5)[0]["time"] > 5002.5
    kept = history.since(0)
    assert kept[-1]["time"] - kept[0]["time"] == KEEP_SECONDS
    assert kept[-1]["ends"] == {}
