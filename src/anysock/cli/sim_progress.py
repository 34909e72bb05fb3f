"""A live line on standard error while histories are explored: how far it is, and how fast."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Console

from anysock.cli.bars import bar_with_figures
from anysock.sim import words
from anysock.sim.explore import Asked, Tally

# What the line takes without its bar, "exploring   0:00:12 1,234/s, 1,234,567 s of virtual time".
_BESIDE_THE_BAR = 62


@contextlib.contextmanager
def progress(
    console: Console, asked: Asked, given: Mapping[str, Any], doing: str
) -> Iterator[Callable[[Tally, float], None]]:
    """A block that is given a function to tell what was counted, and in how many seconds. Shows
    nothing when `console` is no terminal, or with ``--quiet``."""
    bar = bar_with_figures(console, beside=_BESIDE_THE_BAR, quiet=given["quiet"])
    limit = given["seconds"]
    with bar:
        total = asked.histories if limit is None else limit
        task = bar.add_task(doing, total=total, told="")

        def tell(tally: Tally, seconds: float) -> None:
            done = tally.histories if limit is None else seconds
            bar.update(task, completed=done, told=words.speed(tally, seconds))

        yield tell
