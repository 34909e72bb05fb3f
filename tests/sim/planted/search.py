"""How long the stock explorer takes to find a planted fault: run in a process of its own, since the
fault is planted for as long as that lives."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from tests.sim.planted.catalogue import ALL
from tests.sim.planted.planting import plant

#: How many clients a history has, at first.
CLIENTS = 20


def search(name: str, histories: int, first: int = 0) -> dict[str, Any]:
    """Plant the fault, and explore histories until one of them is wrong; then make it smaller."""
    planted = ALL[name]
    plant(planted.changes)
    # Imported now, so that the fault is there.
    from anysock.engines.sim.faults import parse
    from anysock.sim.cases import Case
    from anysock.sim.plan import Plan
    from anysock.sim.scenario import run_history
    from anysock.sim.shrink import shrink
    from anysock.sim.talks import Echo, Lines

    # What a handler logs as it is killed is of no interest.
    logging.disable(logging.CRITICAL)
    case = Case(planted.handler, Lines() if planted.check == "lines" else Echo())
    faults = parse("hostile").kinds
    began = time.process_time()
    for number in range(histories):
        plan = Plan.draw(first + number, clients=CLIENTS, faults=faults, options=planted.options)
        finding = run_history(case, plan).finding
        if finding is not None:
            break
    else:
        return {"name": name, "seconds": time.process_time() - began}
    found = time.process_time()
    smaller = shrink(plan, finding, lambda each: run_history(case, each).finding, within=10.0)
    return {
        "name": name,
        "histories": number + 1,
        "seconds": found - began,
        "finding": smaller.finding.text,
        "clients": len(smaller.plan.clients),
        "faults": sorted(smaller.plan.faults),
        "tries": smaller.tries,
        "shrinking": time.process_time() - found,
        "plan": smaller.plan.to_dict(),
    }


if __name__ == "__main__":
    print(json.dumps(search(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))))
