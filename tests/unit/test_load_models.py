"""The load models, without a server."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from anysock.bench.generator.models import model_of
from anysock.bench.generator.models.churn import Churn
from anysock.bench.generator.models.closed_loop import ClosedLoop
from anysock.bench.generator.models.datagrams import DatagramLoad
from anysock.bench.generator.models.open_loop import OpenLoop, Ring
from anysock.bench.generator.plan import Plan
from anysock.net.addresses import Address


@pytest.mark.parametrize(
    ("address", "more", "model"),
    [
        ("tcp://h:1", {}, ClosedLoop),
        ("tls://h:1", {"rate": 5.0}, OpenLoop),
        ("tcp://h:1", {"churn": 1}, Churn),
        ("tcp://h:1", {"churn": 1, "rate": 5.0}, Churn),
        ("udp://h:1", {}, DatagramLoad),
        ("udp://h:1", {"rate": 5.0}, DatagramLoad),
    ],
)
def test_a_plan_has_its_model(address, more, model):
    assert model_of(Plan(Address.parse(address), **more)) is model


class Broken:
    """A conversation whose connection is broken."""

    fault = None

    def __init__(self, number: int) -> None:
        self.error = OSError(number, "")

    def send(self, count: int, due: float) -> None:
        raise self.error


@pytest.mark.parametrize(("number", "kind"), [(errno.EPIPE, None), (errno.ECONNRESET, "reset")])
def test_a_broken_connection_does_not_end_the_schedule(number, kind):
    tally: Any = None
    ring, broken = Ring(tally), Broken(number)
    conversation: Any = broken
    with ring.joined(conversation):
        ring.send(0.0)
    assert broken.fault == kind
