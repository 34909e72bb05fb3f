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


def search(name: str, histories: int, first: int = 0) -> dict[str, Any]:
    """Plant the fault, and explore histories until one of them is wrong; then make it smaller. All
    but the handler and its options is what ``anysock sim`` does when nothing else is said."""
    planted = ALL[name]
    plant(planted.changes)
    # Imported now, so that the fault is there.
    from anysock.engines.sim.faults import parse
    from anysock.sim.diagnosis import diagnose
    from anysock.sim.explore import Asked, Explorer

    # What a handler logs as it is killed is of no interest.
    logging.disable(logging.CRITICAL)
    explorer = Explorer(
        Asked(
            handler=planted.handler,
            check=planted.check,
            faults=parse("hostile").kinds,
            options=planted.options,
            seed=first,
        )
    )
    began = time.process_time()
    block = explorer.block(range(first, first + histories))
    found = time.process_time()
    if not block.failures:
        return {"name": name, "seconds": found - began}
    ((seed, finding),) = block.failures
    diagnosis = diagnose(explorer, seed, finding)
    return {
        "name": name,
        "histories": block.tally.histories,
        "seconds": found - began,
        "finding": ((diagnosis.outcome and diagnosis.outcome.finding) or finding).text,
        "repeated": diagnosis.outcome is not None,
        "clients": len(diagnosis.plan.clients),
        "faults": sorted(diagnosis.plan.faults),
        "tries": diagnosis.tries,
        "shrinking": time.process_time() - found,
        "plan": diagnosis.plan.to_dict(),
    }


if __name__ == "__main__":
    print(json.dumps(search(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))))
