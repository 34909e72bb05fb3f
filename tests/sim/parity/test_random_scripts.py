"""Random scripts: whatever is done to the ends of a connection, in whatever order, the simulated
sockets answer as Linux does."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sim.parity.linux import Linux
from tests.sim.parity.net import Net
from tests.sim.parity.simulated import Simulated
from tests.sim.parity.sock import Sock
from tests.sim.parity.test_parity import told_by

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that is simulated")

# In CI always the same; a larger number is for a longer search.
EXAMPLES = int(os.environ.get("ANYSOCK_PARITY_EXAMPLES", "0"))
FEW = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
)

SIZES = st.sampled_from([0, 1, 5, 100, 1448, 5000])
HOWS = st.sampled_from([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR])

CALLS = st.one_of(
    st.tuples(st.just("write"), SIZES.map(bytes)),
    st.tuples(st.just("writev"), st.lists(SIZES.map(bytes), max_size=3)),
    st.tuples(st.just("read"), SIZES),
    st.tuples(st.just("peek"), st.sampled_from([1, 200])),
    st.tuples(st.just("shutdown"), HOWS),
    st.tuples(st.just("linger")),
    st.tuples(st.just("close")),
    st.tuples(st.just("error")),
    st.tuples(st.just("mask")),
    st.tuples(st.just("getpeername")),
)

Steps = list[tuple[int, tuple[Any, ...]]]


def steps(ends: int) -> st.SearchStrategy[Steps]:
    return st.lists(st.tuples(st.integers(0, ends - 1), CALLS), max_size=14)


def agree(script: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        linux = told_by(Linux(Path(folder)), script)
    assert told_by(Simulated(), script) == linux


def play(ends: tuple[Sock, ...], what: Steps) -> None:
    for end, (name, *arguments) in what:
        getattr(ends[end], name)(*arguments)
    for each in ends:
        each.mask()


@given(steps(2))
@FEW
def test_a_connection(what):
    agree(lambda net: play(net.pair(), what))


@given(steps(2))
@FEW
def test_a_unix_connection(what):
    agree(lambda net: play(net.pair(socket.AF_UNIX), what))


@given(steps(2), steps(3))
@FEW
def test_a_connection_that_waits_in_a_backlog(before, after):
    def script(net: Net) -> None:
        listener = net.listener(4)
        client = net.client(listener)
        play((client, listener), before)
        server = listener.accept()
        if server is not None:
            play((client, server, listener), after)

    agree(script)


# (Who is shut down for receiving meets an end wherever the queue is empty for a moment.)
BULKY = st.one_of(
    st.sampled_from([("fill",), ("drain",)]),
    st.sampled_from([("shutdown", socket.SHUT_WR), ("linger",), ("close",), ("error",)]),
)


@given(st.lists(st.tuples(st.integers(0, 1), BULKY), max_size=8))
@FEW
def test_a_connection_whose_buffers_are_full(what):
    def script(net: Net) -> None:
        ends = net.pair(buffer=8192)
        for number, (name, *arguments) in what:
            end, other = ends[number], ends[1 - number]
            if name == "drain":
                end.drain(other)
            else:
                getattr(end, name)(*arguments)
            end.mask()
            other.mask()

    agree(script)
