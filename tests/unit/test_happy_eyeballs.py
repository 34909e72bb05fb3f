"""The race of a name's addresses (RFC 8305), by a clock that jumps."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anysock
from anysock.net.addresses import ResolvedAddress
from anysock.tasks.happy_eyeballs import ATTEMPT_DELAY_SECONDS, connect_to_any, interleaved
from tests.no_socket import NoSocket
from tests.simulation import exact_engine

V4, V6 = socket.AF_INET, socket.AF_INET6


def addresses(*families):
    """An address of each family, with its number for its port."""
    return [
        ResolvedAddress(family, ("192.0.2.1" if family == V4 else "2001:db8::1", number))
        for number, family in enumerate(families)
    ]


class Stream(NoSocket):
    def __init__(self) -> None:
        self.aborted = self.closed = False

    def abort(self) -> None:
        self.aborted = True

    async def close(self) -> None:
        await anysock.sleep(0)
        self.closed = True


class Network:
    """An engine whose `connect` does what the test says: after so many seconds (None: never) it
    connects, or fails with an errno."""

    def __init__(self, answers: dict[int, tuple[float | None, int | None]]) -> None:
        self.answers = answers
        self.engine = cast("Any", exact_engine())
        self.engine.connect = self.connect
        #: When each address was tried, those that are being tried, and what came of it.
        self.tried: dict[int, float] = {}
        self.trying: set[int] = set()
        self.streams: list[Stream] = []
        self.given_up: set[int] = set()

    async def connect(self, family, address, *, local=None):
        number = address[1]
        seconds, code = self.answers[number]
        assert number not in self.tried
        self.tried[number] = self.engine.now()
        self.trying.add(number)
        try:
            await anysock.sleep(1e6 if seconds is None else seconds)
        except anysock.Cancelled:
            self.given_up.add(number)
            raise
        finally:
            self.trying.discard(number)
        if code is not None:
            raise OSError(code, os.strerror(code))
        self.streams.append(Stream())
        return self.streams[-1]

    def run(self, main):
        try:
            return self.engine.run(main())
        finally:
            assert not self.engine._kernel.tasks


def race(network, families, **more):
    async def main():
        return await connect_to_any(network.engine, addresses(*families), **more)

    return network.run(main)


def test_families_take_turns_and_the_resolvers_first_is_first():
    found = addresses(V6, V6, V6, V4, V4)
    assert [each.sockaddr[1] for each in interleaved(found)] == [0, 3, 1, 4, 2]
    assert interleaved(addresses(V4)) == addresses(V4)


def test_a_dead_address_costs_a_quarter_of_a_second():
    network = Network({0: (None, None), 1: (0.01, None)})
    told: list[Any] = []
    address, stream = race(network, (V6, V4), trying=told.append)
    assert address.sockaddr[1] == 1
    assert stream is network.streams[0]
    assert not stream.aborted
    assert network.given_up == {0}
    assert ATTEMPT_DELAY_SECONDS == 0.25
    assert network.tried[1] == pytest.approx(0.25, abs=1e-3)
    assert told == [("2001:db8::1", 0), ("192.0.2.1", 1)]


def test_an_address_that_refuses_costs_nothing():
    network = Network({0: (0.01, errno.ECONNREFUSED), 1: (0.01, None)})
    race(network, (V6, V4))
    assert network.tried[1] == pytest.approx(0.01, abs=1e-3)


def test_a_slow_first_address_still_wins_when_it_answers_first():
    network = Network({0: (0.3, None), 1: (None, None), 2: (None, None)})
    address, _ = race(network, (V6, V4, V6))
    assert address.sockaddr[1] == 0
    assert set(network.tried) == {0, 1}
    assert network.given_up == {1}


def test_where_all_refuse_it_says_so_and_names_them():
    network = Network(dict.fromkeys((0, 1), (0.01, errno.ECONNREFUSED)))
    with pytest.raises(ConnectionRefusedError) as caught:
        race(network, (V6, V4))
    assert str(caught.value) == ("[Errno 111] Connection refused: '[2001:db8::1]:0, 192.0.2.1:1'")
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert len(caught.value.__cause__.exceptions) == 2


def test_where_the_reasons_differ_all_are_told():
    network = Network({0: (0.01, errno.ENETUNREACH), 1: (0.01, errno.ECONNREFUSED)})
    with pytest.raises(ConnectionRefusedError) as caught:
        race(network, (V6, V4))
    assert caught.value.strerror == (
        "[2001:db8::1]:0: Network is unreachable; 192.0.2.1:1: Connection refused"
    )


def test_one_address_is_named_too():
    network = Network({0: (0.01, errno.ECONNREFUSED)})
    with pytest.raises(ConnectionRefusedError, match=r"192\.0\.2\.1:0"):
        race(network, (V4,))


def test_what_trying_raises_ends_the_race():
    network = Network({0: (None, None), 1: (0.01, None)})

    def complain(address):
        if address[1] == 1:
            raise BrokenPipeError(errno.EPIPE, "nobody reads")

    with pytest.raises(BrokenPipeError):
        race(network, (V6, V4), trying=complain)
    assert network.given_up == {0}


def test_a_bug_is_raised_as_it_is():
    network = Network({0: (0.0, None), 1: (0.0, None)})

    async def connect(family, address, *, local=None):
        raise OverflowError("connect: port must be 0-65535")

    network.engine.connect = connect
    with pytest.raises(OverflowError):
        race(network, (V6, V4))


SECONDS = st.none() | st.sampled_from([0.0, 0.1, 0.25, 0.26, 0.5]) | st.floats(0, 2)
ANSWERS = st.tuples(
    SECONDS, st.none() | st.sampled_from([errno.ECONNREFUSED, errno.ENETUNREACH, errno.ETIMEDOUT])
)


@given(
    st.lists(st.tuples(st.sampled_from([V4, V6]), ANSWERS), min_size=1, max_size=6),
    st.none() | st.floats(0, 3),
)
def test_one_winner_and_nothing_left_whatever_answers_when(network_of, give_up_after):
    """Nobody wins twice, nothing leaks, whether it is won, lost, or given up from outside; no
    address waits longer than it must."""
    families = [family for family, _ in network_of]
    answers = dict(enumerate(answer for _, answer in network_of))
    network = Network(answers)
    outcome: dict[str, Any] = {}

    async def main():
        # Nobody waits for ever: some seconds after the last is tried, it is over.
        async with anysock.move_on_after(10.0), anysock.move_on_after(give_up_after):
            try:
                outcome["won"] = await connect_to_any(network.engine, addresses(*families))
            except OSError as error:
                outcome["lost"] = error
        # However it ended, it has ended: nobody tries any more.
        assert not network.trying
        open_ones = [stream for stream in network.streams if not stream.aborted]
        assert open_ones == ([outcome["won"][1]] if "won" in outcome else [])
        assert all(stream.closed for stream in network.streams if stream.aborted)

    network.run(main)
    order: list[Any] = [address.sockaddr[1] for address in interleaved(addresses(*families))]
    assert list(network.tried) == order[: len(network.tried)]
    for before, after in itertools.pairwise(order):
        if after in network.tried:
            seconds, code = answers[before]
            waited = network.tried[after] - network.tried[before]
            failed = seconds if seconds is not None and code is not None else None
            assert waited == pytest.approx(0.25 if failed is None else min(failed, 0.25), abs=1e-3)
    if "won" in outcome:
        seconds, code = answers[outcome["won"][0].sockaddr[1]]
        assert seconds is not None
        assert code is None
    if "lost" in outcome:
        assert len(network.tried) == len(families)
        assert all(code is not None for _, code in answers.values())
        assert outcome["lost"].filename.count(",") == len(families) - 1
