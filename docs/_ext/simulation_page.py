"""Write ``docs/reference/simulation.md``: the kinds of faults, as the registry has them, and the
formats of what a simulation writes."""

# ruff: noqa: E501 (a row of a table is one line)

from __future__ import annotations

import sys
from collections.abc import Iterator

from anysock.engines.sim.fault_kinds import FAULTS, PRESETS, Parameter

HEAD = """\
# The simulated network: faults, trace, files

<!-- Made by `make docs/reference/simulation.md`. -->

[How to use it](../howto/simulate.md), and [what is faithful in it](../explanation/simulation.md), are pages of their
own; the classes are [in the library's reference](api.md).

## Kinds of faults

`anysock sim --faults`, `sim.histories(faults=…)` and `sim.World(faults=…)` take their names, with commas between. The
first parameter is the one that `NAME=VALUE` sets; others follow with colons, as in `stall:every=1s:lasts=200ms`. Times are in
seconds, or have a unit; probabilities are from 0 to 1, or in percent. A `-` before a name takes it out again.
"""

TRACE = """\
## The trace

All that happens in a history is an entry of `world.network.trace`, in order: a tuple of the virtual time in seconds, the
host, what, and details. `anysock sim --trace` prints them. Two histories are the same if their traces are: the replay
file has a hash of it (BLAKE2b, 128 bits, of the `repr` of each entry), and `--check-determinism` compares entry by entry.

| what | details | says |
|---|---|---|
| `connected` | address | a connect has succeeded; of a Unix socket, its path |
| `data` | to, bytes | a segment leaves for that host |
| `ack` | to, 0 | a receiver has read: the window is open again for a sender who waits |
| `fin`, `rst` | to, 0 | the end of a stream; a reset |
| `datagram`, `lost`, `overflow` | to, bytes; to; bytes | UDP: one leaves; is lost on its way; finds no room |
| `listens`, `serves`, `closed`, `handler failed` | addresses; peer; peer, reason; peer, error | what a server tells (`closed` has the reason of the access log) |
| `drains`, `has drained` | connections; aborted | a drain, from its beginning to its end |
| the name of a fault | what it strikes, for how long | it strikes |
| `crashes`, `loses power`, `restarts`, `stalls`, `goes on`, a signal | | what the scenario does to a host |
| `heals` | | from now on nothing goes wrong any more |
| `carried` | a number | at the end: a checksum of all bytes that were carried |

## A replay file

`anysock sim` and `sim.histories` write one into `.sim/` for a history that fails. It is JSON:

| key | says |
|---|---|
| `kind` | `anysock sim replay` |
| `handler`, `check` | what was run, and how it was checked |
| `plan` | all that decides the history: `format` (1), `seed`, `clients`, `options` of the server, `faults` with their parameters, `only`: of a kind of fault, the occurrences that happen (`client4.0<#0` is the first one at that end of client 4's first connection) |
| `finding` | what was wrong: `kind`, `text`, and `at` which virtual time |
| `trace_hash` | of all that happened |
| `versions` | of Anysock and Python: a plan is good for other versions, too, but means the same history only where nothing has changed that it depends on |
"""


def reference() -> str:
    """The page."""
    return "\n".join([HEAD, *_faults(), "", "## Presets", "", *_presets(), "", TRACE])


def _faults() -> Iterator[str]:
    yield "| kind | what it does | parameters |"
    yield "|---|---|---|"
    for name, fault in FAULTS.items():
        told = "; ".join(_told(each, figure) for each, figure in fault.parameters.items())
        yield f"| `{name}` | {fault.help} | {told} |"


def _told(name: str, parameter: Parameter) -> str:
    figure, unit = f"{parameter.default:g}", parameter.unit
    if unit == "probability":
        figure, unit = f"{100 * parameter.default:g}%", ""
    return f"`{name}`: {parameter.help} ({figure}{f' {unit}' if unit else ''})"


def _presets() -> Iterator[str]:
    for name, kinds in PRESETS.items():
        if len(kinds) >= len(FAULTS) - 1:
            left_out = [each for each in FAULTS if each not in kinds]
            told = f"all but {', '.join(left_out)}" if left_out else "all"
        else:
            told = ", ".join(f"`{each}`" for each in kinds) or "nothing goes wrong"
        yield f"- `{name}`: {told}"


if __name__ == "__main__":
    sys.stdout.write(reference())
