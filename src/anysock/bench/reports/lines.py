"""A load as it goes on: a line for each interval, as iperf3 prints them."""

from __future__ import annotations

from rich.console import Console

from anysock.bench.generator.plan import Plan
from anysock.bench.load import Progress
from anysock.bench.reports.wording import TOO_FEW, bytes_text, flow_text, rate_text, time_text
from anysock.bench.series import Interval

_COLUMNS = "{:>17}  {:>14}  {:>11}  {:>7}  {:>8}  {:>8}"
#: How wide they are together.
WIDTH = 75

HEADER = _COLUMNS.format("interval", "messages", "bytes", "errors", "p50", "p99")
_FLOWS = "{:>17}  {:>7}"


def interval_line(interval: Interval, plan: Plan, *, wide: bool) -> str:
    """What came of an interval: in the columns of `HEADER` where it is `wide`, or in words."""
    span = f"{interval.begin:.2f}-{interval.end:.2f} s"
    if plan.one_way:
        return _flows_line(span, interval, plan, wide=wide)
    rate, moved = rate_text(interval.rate), f"{bytes_text(interval.rate * plan.size)}/s"
    errors = interval.errors.total()
    p50, p99 = (_time(interval, name) for name in ("p50", "p99"))
    if wide:
        line = _COLUMNS.format(span, rate, moved, f"{errors:,}", p50, p99)
    else:
        line = f"{span}: {rate}, {moved}, {errors:,} errors, p50 {p50}, p99 {p99}"
    return line + _kinds(interval)


def _flows_line(span: str, interval: Interval, plan: Plan, *, wide: bool) -> str:
    """Of a one-way load."""
    flows = {name: flow_text(flow) for name, flow in interval.flows(plan).items()}
    errors = f"{interval.errors.total():,}"
    if wide:
        line = _FLOWS.format(span, errors) + "".join(map("{:>26}".format, flows.values()))
    else:
        told = "; ".join(f"{flow} {name}" for name, flow in flows.items())
        line = f"{span}: {told}; {errors} errors"
    return line + _kinds(interval)


def header(plan: Plan) -> str:
    """What stands above the columns."""
    if not plan.one_way:
        return HEADER
    return _FLOWS.format("interval", "errors") + "".join(
        f"{name:>26}" for name in Interval(0.0, 0.0).flows(plan)
    )


def _kinds(interval: Interval) -> str:
    found = ", ".join(f"{count:,} × {kind}" for kind, count in interval.errors.items())
    return f"  {found}" if found else ""


class Lines(Progress):
    """Prints a line of each interval of the load `plan`."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._wide = console.width >= WIDTH
        self._begun = False

    def interval(self, interval: Interval) -> None:
        if self._wide and not self._begun:
            self._say(header(self._plan))
        self._begun = True
        self._say(interval_line(interval, self._plan, wide=self._wide))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)
        self._console.file.flush()  # whoever reads a pipe wants it now


def _time(interval: Interval, name: str) -> str:
    told = interval.echo.get(name)
    return TOO_FEW if told is None else time_text(told)
