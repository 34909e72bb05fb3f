"""A live line on standard error while a load runs: how far it is, its rate, its p99."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console

from anysock.bench.generator.latencies import Latencies
from anysock.bench.generator.plan import Plan
from anysock.bench.load import Progress
from anysock.bench.reports.wording import bytes_text, percentile_text, rate_text
from anysock.cli.bars import bar_with_figures

# What the line takes without its bar, "warming up   0:00:12 1,234,567/s  p99 1.23 ms".
_BESIDE_THE_BAR = 52


class LoadProgress(Progress):
    """Shows nothing when `console` is no terminal, or with `quiet`."""

    def __init__(self, console: Console, plan: Plan, *, quiet: bool = False) -> None:
        self._plan = plan
        self._bar = bar_with_figures(console, beside=_BESIDE_THE_BAR, describes=12, quiet=quiet)
        self._task = self._bar.add_task("warming up", total=None, told="")
        self._measuring = False
        # What the processes have said since the display last changed.
        self._said = 0
        self._messages = self._moved = 0
        self._echo = Latencies()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def measuring(self) -> None:
        if not self._measuring:
            self._measuring = True
            total = self._plan.messages or self._plan.duration
            self._bar.update(self._task, description="measuring", total=total)

    def tick(self, messages: int, echo: Latencies, moved: int = 0) -> None:
        self._said += 1
        self._moved += moved
        self._messages += messages
        self._echo.merge(echo)
        if self._said < self._plan.processes:
            return
        told = f"{rate_text(self._messages / self._plan.tick)}  "
        if self._plan.one_way:
            told = f"{bytes_text(self._moved / self._plan.tick)}/s"
        shown = next((each for each in (99, 90, 50) if self._echo.told(each) is not None), None)
        if shown is not None:
            told += f"p{shown} {percentile_text(self._echo, shown)}"
        elif not self._messages and not self._plan.one_way:
            told += "no answers"
        done = 0.0
        if self._measuring:
            done = self._messages if self._plan.messages else self._plan.tick
        self._bar.update(self._task, advance=done, told=told)
        self._said = self._messages = self._moved = 0
        self._echo = Latencies()
