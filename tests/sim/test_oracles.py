"""Each oracle sees its own violation, and is silent where all is well."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import anysock
from anysock import sim
from anysock.engines.sim.faults import parse
from anysock.errors import TlsTruncated
from anysock.options.serve import ServeOptions
from anysock.sim.explore import Asked, Explorer
from anysock.sim.oracles import (
    ALL,
    ClientRecord,
    Disturbance,
    History,
    HostAtEnd,
    Served,
    ServerRecord,
    judge,
)
from anysock.sim.oracles.disturbances import disturbances
from anysock.telemetry.events import CloseReason

RESET = ConnectionResetError(104, "Connection reset by peer")


def echo(sent: bytes) -> bytes:
    return sent


def figures(server: ServerRecord) -> dict[str, object]:
    """What the counters say, if they are right."""
    told = Counter(each.reason for each in server.connections)
    return {
        "accepted": len(server.connections),
        "connections": told[None],
        "closed": {reason.name.lower(): told[reason] for reason in CloseReason},
        "handler_failures": told[CloseReason.FAILED],
        "accept_errors": len(server.accept_errors),
        "bytes_received": sum(each.received for each in server.connections),
        "bytes_sent": sum(each.sent for each in server.connections),
    }


def a_connection(number: int = 1, **changes: Any) -> Served:
    """A client has sent ten bytes, got them back, and ended its stream."""
    usual: dict[str, Any] = {
        "peer": ("10.0.0.2", 4000 + number),
        "source": "10.0.0.2",
        "accepted": 1.0,
        "open_before": 0,
        "of_source_before": 0,
        "opened": 1.0,
        "closed": 1.2,
        "reason": CloseReason.DONE,
        "received": 10,
        "sent": 10,
        "taken_at": 1.1,
        "acknowledged_at": 1.1,
        "told_opened": 1,
        "told_closed": 1,
    }
    return Served(**usual | changes)


def a_client(number: int = 1, **changes: Any) -> ClientRecord:
    """The same connection, as the client saw it."""
    usual: dict[str, Any] = {
        "name": str(number),
        "host": "client",
        "began": 1.0,
        "connected": 1.0,
        "local": ("10.0.0.2", 4000 + number),
        "sent": bytearray(b"0123456789"),
        "sends": [(1.1, 10)],
        "received": bytearray(b"0123456789"),
        "receives": [(1.1, 10)],
        "half_closed": 1.2,
        "ended": 1.2,
        "closed": 1.2,
    }
    return ClientRecord(**usual | changes)


def history(
    served: dict[str, Any] | list[Served] | None = None,
    client: dict[str, Any] | list[ClientRecord] | None = None,
    *,
    options: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    **changes: Any,
) -> History:
    """A history of one connection, where nothing is wrong but for the changes."""
    connections = served if isinstance(served, list) else [a_connection(**served or {})]
    clients = client if isinstance(client, list) else [a_client(**client or {})]
    record = ServerRecord(
        "server",
        ServeOptions(**{"bind": "tcp://:7"} | (options or {})),
        echo,
        echo,
        connections,
        drain_began=5.0,
        drain_seconds=10.0,
        drained=5.1,
    )
    record = dataclasses.replace(record, **server or {})
    record.figures = record.figures or figures(record)
    return History([record], clients, ended=20.0, **changes)


def told_as(reason: CloseReason, **more: Any) -> dict[str, Any]:
    return {"reason": reason, **more}


GOOD = {
    "an echo": history(),
    "a client that resets": history(
        told_as(CloseReason.LOST, error=RESET, sent=10),
        {"half_closed": None, "aborted": 1.15, "ended": None, "closed": None},
    ),
    "a reset by the network": history(
        told_as(CloseReason.LOST, error=RESET, sent=20),
        {"half_closed": None, "end": RESET},
        disturbances=[Disturbance("reset", ("client", "server"), 1.15, 1.15, kills=True)],
    ),
    "one that is idle": history(
        told_as(CloseReason.IDLE, closed=3.2), {"half_closed": None}, options={"idle_timeout": 2}
    ),
    "one that has had its time": history(
        told_as(CloseReason.LIFETIME, closed=3.1),
        {"half_closed": None},
        options={"max_lifetime": 2},
    ),
    "one that does not read": history(
        told_as(
            CloseReason.WRITE_TIMEOUT, closed=3.2, received=10, sent=5, aborted=True, error=None
        ),
        {"half_closed": None, "keeps_reading": False, "awaits": False, "received": bytearray()},
        options={"write_timeout": 2},
    ),
    "a drain": history(
        told_as(CloseReason.DRAINED, closed=5.01), {"half_closed": None, "closed": None}
    ),
    "a drain that aborts": history(
        told_as(CloseReason.ABORTED, closed=15.0, aborted=True, taken_at=14.9, received=20),
        {"half_closed": None, "ended": 15.0, "end": RESET, "sent": bytearray(b"0123456789" * 2)},
        server={"drained": 15.0, "drain_aborted": 1, "aborted": 1},
    ),
    "one too many": history(
        told_as(CloseReason.OVERFLOW, received=0, sent=0, open_before=3, aborted=True, closed=1.0),
        {"received": bytearray(), "end": RESET, "half_closed": None},
        options={"max_connections": 3, "overflow": "close"},
    ),
    "one that is answered bit by bit, and takes nothing": history(
        told_as(CloseReason.ABORTED, closed=15.0, aborted=True, put_at=14.9, sent=20),
        {
            "half_closed": None,
            "ended": 15.0,
            "end": RESET,
            "awaits": False,
            "receives": [],
            "received": bytearray(),
            "sent": bytearray(30),
        },
        options={"idle_timeout": 2, "rate_limit": 10},
        server={"drained": 15.0, "drain_aborted": 1, "aborted": 1},
    ),
    "one that does not receive what has come while it sends": history(
        told_as(CloseReason.ABORTED, closed=15.0, aborted=True, sent=9),
        {
            "half_closed": None,
            "received": bytearray(),
            "receives": [],
            "ended": 15.0,
            "end": RESET,
            "unread": [(1.5, 15.0)],
        },
        server={"drained": 15.0, "drain_aborted": 1, "aborted": 1},
    ),
    "one that has not taken all when a close has waited": history(
        {"closed": 2.3, "put_at": 1.1, "let_go_at": 1.2, "untaken": 3},
        {
            "sent": bytearray(b"0123456789?"),
            "received": bytearray(b"0123456"),
            "ended": 2.3,
            "end": RESET,
        },
    ),
    "one that has no room for the server's end of TLS": history(
        {"closed": 2.3, "put_at": 1.1, "let_go_at": 1.2},
        {"ended": 2.3, "end": TlsTruncated("truncated"), "half_closed": None, "closed": 2.25},
    ),
    "one whose good end was held up": history(
        told_as(CloseReason.IDLE, closed=4.0, aborted=True, sent=9, ended_at=3.2),
        {"received": bytearray(b"012345678"), "ended": 5.0, "half_closed": None},
        options={"idle_timeout": 2},
        disturbances=[Disturbance("hold", ("client", "server"), 3.1, 4.9)],
    ),
    "too many bytes": history(
        told_as(CloseReason.MAX_BYTES, received=5, sent=4),
        {"received": bytearray(b"0123"), "half_closed": None},
        options={"max_bytes": 4},
    ),
    "aborted as it waited for the peer to take the end of TLS": history(
        told_as(CloseReason.IDLE, received=5, sent=5, aborted=True, closed=3.2),
        {"received": bytearray(b"01234"), "ended": 3.4, "half_closed": None, "closed": 3.4},
        options={"idle_timeout": 2, "bind": "tls://:7", "tls_cert": sim.CERTIFICATE},
    ),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_all_are_silent_where_all_is_well(good: History):
    assert list(judge(good)) == []


# What is wrong, and the oracle that says so, with a part of its words.
BAD: list[tuple[str, str, Callable[[], History]]] = [
    ("bytes_are_right", "wrong bytes at 4", lambda: history(
        client={"received": bytearray(b"0123056789")})),
    ("bytes_are_right", "wrong bytes at 10", lambda: history(
        {"sent": 11}, {"received": bytearray(b"01234567899")})),
    ("no_byte_from_nowhere", "which sent 9", lambda: history({"sent": 9})),
    ("no_byte_from_nowhere", "which sent 10", lambda: history({"received": 11})),
    ("nothing_answered_is_lost", "has lost 3 of the 10", lambda: history(
        client={"received": bytearray(b"0123456"), "end": RESET})),
    ("nothing_answered_is_lost", "has lost 3 of the 10", lambda: history(
        {"closed": 2.3, "put_at": 1.1, "let_go_at": 1.4, "untaken": 3},
        {"received": bytearray(b"0123456"), "ended": 2.3, "end": RESET})),
    ("nothing_answered_is_lost", "has lost 3 of the 10", lambda: history(
        {"closed": 2.3, "put_at": 1.1, "let_go_at": 1.2, "untaken": 2},
        {"received": bytearray(b"0123456"), "ended": 2.3, "end": RESET})),
    ("what_ends_well_is_complete", "got 7 bytes and a good end", lambda: history(
        {"sent": 7}, {"received": bytearray(b"0123456")})),
    ("an_abort_is_no_good_end", "good end of the stream after 7", lambda: history(
        told_as(CloseReason.ABORTED, aborted=True, sent=9, closed=15.0),
        {"received": bytearray(b"0123456"), "ended": 15.0, "half_closed": None},
        server={"drain_aborted": 1, "aborted": 1, "drained": 15.0})),
    ("an_abort_is_no_good_end", "good end of the stream after 9", lambda: history(
        told_as(CloseReason.IDLE, closed=4.0, aborted=True, sent=9, ended_at=4.0),
        {"received": bytearray(b"012345678"), "ended": 5.0, "half_closed": None},
        options={"idle_timeout": 2},
        disturbances=[Disturbance("hold", ("client", "server"), 3.1, 4.9)])),
    ("an_abort_is_no_good_end", "good end of the stream after 4", lambda: history(
        told_as(CloseReason.IDLE, received=5, sent=5, aborted=True, closed=3.2),
        {"received": bytearray(b"0123"), "ended": 3.4, "half_closed": None, "closed": 3.4},
        options={"idle_timeout": 2, "bind": "tls://:7", "tls_cert": sim.CERTIFICATE})),
    ("resets_are_explained", "sent nothing that the server did not receive", lambda: history(
        client={"end": RESET})),
    ("resets_are_explained", "sent nothing that the server did not receive", lambda: history(
        {"closed": 2.3, "put_at": 1.1, "let_go_at": 1.4}, {"end": TlsTruncated("truncated")})),
    ("resets_are_explained", "no server knows of it", lambda: history(
        [], {"end": RESET, "sent": bytearray(), "received": bytearray()})),
    ("close_reasons_are_true", "had not ended its stream", lambda: history(
        client={"half_closed": None, "closed": None})),
    ("close_reasons_are_true", "10 bytes were received", lambda: history(
        told_as(CloseReason.NO_DATA))),
    ("close_reasons_are_true", "nobody reset it", lambda: history(
        told_as(CloseReason.LOST, error=RESET))),
    ("close_reasons_are_true", "by which error", lambda: history(
        told_as(CloseReason.LOST), {"aborted": 1.1, "half_closed": None, "ended": None})),
    ("close_reasons_are_true", "no failure was told", lambda: history(
        told_as(CloseReason.FAILED))),
    ("close_reasons_are_true", "no drain had begun", lambda: history(
        told_as(CloseReason.DRAINED, closed=4.0))),
    ("close_reasons_are_true", "been quiet for 0.200 s only", lambda: history(
        told_as(CloseReason.DRAINED, closed=5.2, silence=0.2), {"sends": [(5.0, 10)]})),
    ("close_reasons_are_true", "it was open for 0.200 s only", lambda: history(
        told_as(CloseReason.IDLE), options={"idle_timeout": 2})),
    ("close_reasons_are_true", "had been silent for 1.000 s", lambda: history(
        told_as(CloseReason.IDLE, closed=4.0, silence=1.0), {"sends": [(3.0, 10)]},
        options={"idle_timeout": 2})),
    ("close_reasons_are_true", "what it had sent had lain there for 0.200 s", lambda: history(
        told_as(CloseReason.IDLE, closed=4.0, silence=2.5, lain=0.2),
        options={"idle_timeout": 2})),
    ("close_reasons_are_true", "what it had sent had lain there for 0.300 s", lambda: history(
        told_as(CloseReason.DRAINED, closed=5.2, silence=0.9, lain=0.3))),
    ("close_reasons_are_true", "there is no idle timeout", lambda: history(
        told_as(CloseReason.IDLE), options={"idle_timeout": 0})),
    ("close_reasons_are_true", "taken bytes 0.500 s before", lambda: history(
        told_as(CloseReason.WRITE_TIMEOUT, closed=4.0, acknowledged_at=3.5),
        options={"write_timeout": 2})),
    ("close_reasons_are_true", "rate is taken over 2", lambda: history(
        told_as(CloseReason.TOO_SLOW), options={"min_rate": 10, "idle_timeout": 2})),
    ("close_reasons_are_true", "has lasted 0.200 s, and may 2", lambda: history(
        told_as(CloseReason.LIFETIME), options={"max_lifetime": 2})),
    ("close_reasons_are_true", "moved 10 bytes, and may 10", lambda: history(
        told_as(CloseReason.MAX_BYTES), options={"max_bytes": 10})),
    ("close_reasons_are_true", "no such limit", lambda: history(told_as(CloseReason.MEMORY))),
    ("close_reasons_are_true", "2 were open, and 3 may be", lambda: history(
        told_as(CloseReason.OVERFLOW, open_before=2),
        options={"max_connections": 3, "overflow": "close"})),
    ("close_reasons_are_true", "its source had 1 open, and may have 2", lambda: history(
        told_as(CloseReason.PER_SOURCE, of_source_before=1), options={"per_source": 2})),
    ("close_reasons_are_true", "nobody had come", lambda: history(
        told_as(CloseReason.ACCEPT_RATE), options={"accept_rate": 5, "overflow": "close"})),
    ("close_reasons_are_true", "nobody is denied", lambda: history(told_as(CloseReason.DENIED))),
    ("close_reasons_are_true", "there is no handshake", lambda: history(
        told_as(CloseReason.HANDSHAKE))),
    ("close_reasons_are_true", "no header was asked for", lambda: history(
        told_as(CloseReason.PROXY_HEADER))),
    ("close_reasons_are_true", "it has no outbox", lambda: history(
        told_as(CloseReason.OUTBOX_FULL))),
    ("close_reasons_are_true", "the drain had 5.000 s left", lambda: history(
        told_as(CloseReason.ABORTED, closed=10.0))),
    ("no_more_connections_than_allowed", "where 3 of 3 were open", lambda: history(
        {"open_before": 3}, options={"max_connections": 3})),
    ("no_more_connections_than_allowed", "2 of 2 of its source", lambda: history(
        {"of_source_before": 2}, options={"per_source": 2})),
    ("no_more_bytes_than_allowed", "10 bytes, and may 9", lambda: history(
        options={"max_bytes": 9})),
    ("no_more_bytes_than_allowed", "3 bytes until max_bytes was met, and 4", lambda: history(
        told_as(CloseReason.MAX_BYTES, sent=3), {"received": bytearray(b"012")},
        options={"max_bytes": 4})),
    ("no_faster_than_allowed", "more than 1000 bytes a second", lambda: history(
        {"sent": 2000, "received": 2000},
        {"sent": bytearray(2000), "received": bytearray(2000),
         "receives": [(1.1, 200), (1.2, 2000)]},
        options={"rate_limit": 1000})),
    ("nobody_comes_in_too_fast", "too fast for 2 connections", lambda: history(
        [a_connection(each, accepted=1.0 + each / 100) for each in range(4)], [],
        options={"accept_rate": 2})),
    ("nobody_stays_too_long", "max_lifetime was met", lambda: history(
        told_as(CloseReason.LIFETIME, closed=19.0), options={"max_lifetime": 2})),
    ("nobody_stays_too_long", "idle_timeout was met", lambda: history(
        told_as(CloseReason.DONE, closed=9.0), options={"idle_timeout": 2})),
    ("nobody_stays_too_long", "write_timeout was met", lambda: history(
        {"closed": 9.0, "sent": 5}, {"received": bytearray(b"01234")},
        options={"write_timeout": 2})),
    ("who_waits_for_room_comes_in", "waited for 0.800 s though", lambda: history(
        [a_connection(1), a_connection(2, accepted=2.0, opened=2.0, closed=2.1, taken_at=2.0)],
        [a_client(1), a_client(2, connected=1.1)], options={"max_connections": 1})),
    ("answers_come_in_time", "3.000 s for an answer: it had 0 of 10 bytes", lambda: history(
        {"closed": 4.2}, {"receives": [(4.1, 10)], "half_closed": 4.2, "ended": 4.2})),
    ("answers_come_in_time", "2.900 s for an answer: it had 0 of 10 bytes", lambda: history(
        {"closed": 9.2}, {"receives": [(9.1, 10)], "unread": [(4.0, 9.1)], "half_closed": 9.2,
                          "ended": 9.2})),
    ("answers_come_in_time", "for the end, when it had ended", lambda: history(
        {"closed": 9.0}, {"ended": 9.0, "closed": 9.0})),
    ("drains_end_in_time", "is not over after 15.000 s", lambda: history(
        server={"drained": None, "drain_seconds": 1})),
    ("drains_end_in_time", "was over after 14.000 s, and had 10 s", lambda: history(
        server={"drained": 19.0})),
    ("a_drain_ends_who_is_at_rest", "had been at rest for 12.000 s", lambda: history(
        told_as(CloseReason.ABORTED, closed=15.0, aborted=True, put_at=3.0),
        {"ended": 15.0, "end": RESET, "half_closed": None},
        server={"drained": 15.0, "drain_aborted": 1, "aborted": 1})),
    ("a_drain_ends_who_is_at_rest", "had been at rest for 13.900 s", lambda: history(
        told_as(CloseReason.ABORTED, closed=15.0, aborted=True),
        {"ended": 15.0, "end": RESET, "half_closed": None},
        server={"drained": 15.0, "drain_aborted": 1, "aborted": 1})),
    ("events_agree", "never told as closed", lambda: history({"closed": None})),
    ("events_agree", "opened 2 times", lambda: history({"told_opened": 2})),
    ("events_agree", "closed before it was opened", lambda: history({"opened": 1.3})),
    ("counters_agree", "the counter accepted says 2, and the events 1", lambda: history(
        server={"figures": {**figures(history().servers[0]), "accepted": 2}})),
    ("aborts_are_told", "1 connections count as aborted, and 0 were told so", lambda: history(
        server={"aborted": 1, "drain_aborted": 1})),
    ("aborts_are_told", "told of 0 aborts, and 1 count", lambda: history(server={"aborted": 1})),
    ("nothing_fails", "failed: KeyError('x')", lambda: history(
        told_as(CloseReason.FAILED, failure=KeyError("x")))),
    ("nothing_fails", "a task of the server", lambda: history(
        server={"housekeeping_errors": [ValueError("x")]})),
    ("nothing_fails", "accepting failed: MemoryError", lambda: history(
        server={"accept_errors": [(1.0, MemoryError())]})),
    ("nothing_fails", "the server on server ended with", lambda: history(
        server={"failed": OSError(24, "Too many open files")})),
    ("nothing_is_left", "client has left open a socket", lambda: history(
        hosts=[HostAtEnd("client", ["a socket"])])),
    ("nothing_is_left", "has left the task 'tick'", lambda: history(
        hosts=[HostAtEnd("server", (), ["tick"])])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("oracle", "words", "make"), BAD, ids=[f"{each[0]}-{number}" for number, each in enumerate(BAD)]
)
def test_it_sees_its_own_violation(oracle: str, words: str, make: Callable[[], History]):
    assert [each for each in judge(make()) if each.startswith(f"{oracle}: ") and words in each]


def test_every_oracle_has_a_violation_here_and_says_what_it_takes_for_granted():
    assert {each.__name__ for each in ALL} == {oracle for oracle, _, _ in BAD}
    assert all(len(each.__doc__ or "") > 40 for each in ALL)


EXCUSED = {
    "the network was held up": Disturbance("partition", ("client", "server"), 1.1, 8.9),
    "the client was stopped": Disturbance("stall", ("client",), 1.1, 8.9),
    "all were held up": Disturbance("partition", (), 0.0, 9.0),
}


@pytest.mark.parametrize("why", EXCUSED)
def test_who_was_held_up_is_excused(why: str):
    late = history({"closed": 9.0}, {"ended": 9.0, "closed": 9.0}, disturbances=[EXCUSED[why]])
    assert list(judge(late)) == []


def test_another_s_disturbance_excuses_nobody():
    elsewhere = Disturbance("partition", ("client", "another"), 1.1, 8.9)
    late = history({"closed": 9.0}, {"ended": 9.0, "closed": 9.0}, disturbances=[elsewhere])
    assert len(list(judge(late))) == 1


def test_an_address_that_is_used_again_is_another_client():
    twice = history(
        [a_connection(1), a_connection(1, accepted=3.0, opened=3.0, closed=3.2, taken_at=3.1)],
        [
            a_client(1),
            a_client(1, began=3.0, connected=3.0, sends=[(3.1, 10)], receives=[(3.1, 10)],
                     half_closed=3.2, ended=3.2, closed=3.2),
        ],
    )  # fmt: skip
    assert [client.began for _, _, client in twice.pairs] == [1.0, 3.0]
    assert list(judge(twice)) == []


def test_what_is_done_by_hand_is_read_from_the_trace():
    world = sim.World()
    done: list[tuple[Any, ...]] = []

    async def scenario(world: sim.World) -> None:
        server, client = world.host("server"), world.host("client")
        world.partition(server, client)
        server.stall(1.0)
        await world.sleep(2.0)
        world.heal()
        world.link(server, client).hold()
        await world.sleep(1.0)
        world.link(server, client).release()
        world.link(client, server).reset()
        client.crash()

    world.run(scenario)
    done = [
        (each.kind, each.hosts, round(each.began, 2), round(each.ended, 2), each.kills)
        for each in disturbances(world.network)
    ]
    between = ("server", "client")
    assert done == [
        ("stalls", ("server",), 0.0, 2.2, False),
        ("parts", between, 0.0, 4.2, False),
        ("holds", between, 2.0, 4.2, False),
        ("resets", ("client", "server"), 3.0, math.inf, True),
        ("crashes", ("client",), 3.0, math.inf, True),
    ]


def test_what_a_fault_does_is_read_from_the_trace():
    """Between hosts, on a host, and to one connection."""

    async def scenario(world: sim.World) -> None:
        world.host("server").serve("discard", bind="tcp://:7")
        for host in world.hosts("client", 3):
            host.spawn(talk(), "talks")
        await world.sleep(20)

    async def talk() -> None:
        with contextlib.suppress(OSError):
            connection = await anysock.connect("server:7")
            for _ in range(100):
                await connection.send_all(b"x")
                await anysock.sleep(0.1)

    faults = "reset=1%,partition,stall,zero-window,half-open=1%"
    world = sim.World(seed=3, faults=faults)
    world.run(scenario)
    found = disturbances(world.network)
    assert {each.kind for each in found} == set(world.fired)
    for each in found:
        assert set(each.hosts) <= {"server", "client0", "client1", "client2", "scenario"}
        assert each.ended > each.began
        assert bool(each.ends) == (each.kind in ("reset", "half-open", "zero-window"))


def test_who_is_turned_away_at_the_end_of_a_drain_was_to_come_in_if_there_was_room():
    def turned_away(room: bool) -> History:
        """The second client waits for the first one to leave, until the drain is over."""
        first = a_connection(1, closed=3.0 if room else 15.1, taken_at=3.0)
        second = a_connection(
            2, accepted=15.0, opened=15.0, closed=15.0, reason=CloseReason.ABORTED, aborted=True
        )
        return history([first, second], [a_client(1), a_client(2)], options={"max_connections": 1})

    def complaints(found: History) -> list[str]:
        return [each for each in judge(found) if each.startswith("who_waits_for_room_comes_in")]

    assert complaints(turned_away(room=False)) == []
    (complaint,) = complaints(turned_away(room=True))
    assert "client 2 waited for 12.000 s though there was room" in complaint


@pytest.mark.parametrize("handler", ["echo", "lines"])
def test_no_oracle_complains_of_the_server_as_it_is(handler: str):
    asked = Asked(handler=handler, check=handler, faults=parse("hostile").kinds, keep_going=True)
    assert Explorer(asked).block(range(60)).failures == []
