"""Peers that several files of tests connect to."""

from __future__ import annotations

import contextlib
import socket

import pytest


@contextlib.contextmanager
def dead_address():
    """An address that answers nothing: its backlog is full, so that the kernel drops each SYN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            knock = stack.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(listener.getsockname())
        probe = stack.enter_context(socket.socket())
        probe.settimeout(0.05)
        try:
            probe.connect(listener.getsockname())
        except TimeoutError:
            yield listener.getsockname()
        else:
            pytest.skip("a full backlog does not drop connections here")


@pytest.fixture
def dead():
    with dead_address() as address:
        yield address


@pytest.fixture
def alive():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


@pytest.fixture
def refused():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()
