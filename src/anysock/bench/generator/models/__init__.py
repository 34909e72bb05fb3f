"""What the connections of a load do: one file for each kind of load.

- `model`: `LoadModel`, what a worker asks of each, and what they share;
- `closed_loop`: a connection sends the next message when one comes back;
- `open_loop`: messages are sent on schedule;
- `churn`: connections that end after some messages;
- `one_way`: data flow one way, or both, and nothing is answered;
- `datagrams`: over UDP.
"""

from __future__ import annotations

from anysock.bench.generator.models.churn import Churn
from anysock.bench.generator.models.closed_loop import ClosedLoop
from anysock.bench.generator.models.datagrams import DatagramLoad
from anysock.bench.generator.models.model import LoadModel
from anysock.bench.generator.models.one_way import OneWay
from anysock.bench.generator.models.open_loop import OpenLoop
from anysock.bench.generator.plan import Plan


def model_of(plan: Plan) -> type[LoadModel]:
    """The kind of load that `plan` asks for."""
    if plan.one_way:
        return OneWay
    if plan.address.kind == "udp":
        return DatagramLoad
    if plan.churn is not None:
        return Churn
    return ClosedLoop if plan.rate is None else OpenLoop
