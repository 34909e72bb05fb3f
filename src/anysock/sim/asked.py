"""Which faults are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from anysock.engines.sim.faults import FaultPlan, parse

#: In words, as ``anysock sim --faults`` takes them; as a plan; or the parameters of each by name.
AskedFaults: TypeAlias = str | FaultPlan | Mapping[str, Mapping[str, float]]


def faults_of(asked: AskedFaults) -> FaultPlan:
    """The plan of faults that was asked for. Raises `UsageError` for what there is not."""
    if isinstance(asked, str):
        return parse(asked)
    return asked if isinstance(asked, FaultPlan) else FaultPlan(asked)
