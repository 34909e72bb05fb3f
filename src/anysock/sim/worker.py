"""A process that runs histories for another: a line of JSON says what is asked, each further line
which seeds, and a line comes back for each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any

from anysock.errors import AnysockError
from anysock.sim.explore import Asked, Explorer


def main() -> None:
    """Answer until there are no more lines."""
    # A Ctrl-C is for who has started us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a handler prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(data: Any) -> None:
        answers.write(json.dumps(data) + "\n")
        answers.flush()

    try:
        explorer = Explorer(Asked.from_dict(json.loads(sys.stdin.readline())))
        # The first history imports what the others have.
        for line in sys.stdin:
            answer(_answered(explorer, json.loads(line)))
    except AnysockError as error:
        answer({"error": type(error).__name__, "text": str(error)})
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # who has asked is gone
            answers.close()


def _answered(explorer: Explorer, wanted: dict[str, Any]) -> dict[str, Any]:
    if wanted["what"] == "block":
        return explorer.block(range(*wanted["seeds"])).to_dict()
    outcomes = ((seed, explorer.run(explorer.asked.plan(seed))) for seed in wanted["seeds"])
    if wanted["what"] == "hashes":
        return {"hashes": [[seed, outcome.trace_hash] for seed, outcome in outcomes]}
    [(_, outcome)] = outcomes
    return {"trace": [repr(entry) for entry in outcome.network.trace]}


if __name__ == "__main__":
    main()
