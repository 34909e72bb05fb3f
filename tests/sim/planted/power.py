"""The power of the explorer, as a table: after how many histories it finds each planted fault, and
how small it makes the plan. ``python -m tests.sim.planted.power [NAME …]``; by default, all."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

from tests.sim.planted.catalogue import ALL, thirty

#: In so many histories each is to be found.
HISTORIES = 500

#: So many of the thirty, at least.
ENOUGH = 27


def search(name: str, histories: int = HISTORIES, first: int = 0) -> dict[str, Any]:
    """What `tests.sim.planted.search` finds, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim.planted.search", name, str(histories), str(first)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(found: dict[str, Any]) -> str:
    name, seconds = found["name"], found["seconds"]
    if "histories" not in found:
        return f"{name:38}  not found                           {seconds:6.1f} s"
    faults = ", ".join(found["faults"]) or "none"
    return (
        f"{name:38} {found['histories']:4} {found['clients']:8} {found['shrinking']:9.1f} s "
        f"{seconds:7.1f} s  {faults}\n      {found['finding'][:160]}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--histories", type=int, default=HISTORIES)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    asked = parser.parse_args()
    names = asked.names or list(ALL)
    wanted = {each.name for each in thirty()}
    print(f"{'fault':38} after  clients  shrinking   search   kinds of faults")
    missed = 0
    for name in names:
        found = search(name, asked.histories, asked.first)
        missed += name in wanted and "histories" not in found
        print(row(found), flush=True)
    of = len(wanted & set(names))
    print(f"{of - missed} of {of} found within {asked.histories} histories each")
    return missed > len(wanted) - ENOUGH


if __name__ == "__main__":
    sys.exit(main())
