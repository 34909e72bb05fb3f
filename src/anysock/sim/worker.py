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
from anysock.sim.many import many
from anysock.sim.story import written
from anysock.sim.tracing import hash_of_trace


def main() -> None:
    """Answer until there are no more lines."""
    # A Ctrl-C is for who has started us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a handler prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(data: Any) -> None:
        answers.write(json.dumps(data) + "\n")
        answers.flush()

    try:
        answers_to = _Answers(Asked.from_dict(json.loads(sys.stdin.readline())))
        for line in sys.stdin:
            say(answers_to.answer(json.loads(line)))
    except AnysockError as error:
        say({"error": type(error).__name__, "text": str(error)})
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # who has asked is gone
            answers.close()


class _Answers:
    """What comes back for each line."""

    def __init__(self, asked: Asked) -> None:
        self._explorer = Explorer(asked)
        self._traces: dict[int, Any] = {}

    def answer(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["what"] == "block":
            return self._explorer.block(range(*wanted["seeds"])).to_dict()
        if wanted["what"] == "trace":
            return {"trace": written(self._traces[wanted["seed"]])}
        self._traces.clear()
        with many():
            for seed in wanted["seeds"]:
                outcome = self._explorer.run(self._explorer.asked.plan(seed))
                self._traces[seed] = outcome.network.trace
        return {"hashes": [[seed, hash_of_trace(each)] for seed, each in self._traces.items()]}


if __name__ == "__main__":
    main()
