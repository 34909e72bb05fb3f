"""The lines that a run of probes prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anysock.clients.echo_check import Answer, Verdict
from anysock.clients.ping.plan import Plan
from anysock.clients.ping.statistics import PERCENTILES, Summary
from anysock.engines.current import current_engine
from anysock.errors import AnysockError
from anysock.net.printable import printable
from anysock.options.units import format_duration

_NAMES = {
    Verdict.LATE: "late answer",
    Verdict.REORDERED: "reordered answer",
    Verdict.DUPLICATE: "duplicate answer",
    Verdict.CORRUPT: "corrupt answer",
    Verdict.SHORT: "short answer",
}


class Report:
    """Counts what happens to the probes in `summary`, and prints a line for each: ``print(line)``.

    Where that fails nobody reads the output any more: the error is kept in `failure`, nothing more
    is printed, and `stop` is called.
    """

    def __init__(
        self,
        plan: Plan,
        print: Callable[[str], object],
        stop: Callable[[], None],
        mark: Callable[[str], object] = lambda _: None,
    ) -> None:
        self.summary = Summary()
        self.failure: OSError | None = None
        self._plan = plan
        #: The round trip that is usual, in seconds; None: there was none yet.
        self.usual: float | None = None
        self._print = print
        self._mark = mark
        self._stop = stop
        self._server = str(plan.address).removeprefix("tcp://")

    def begin(self) -> None:
        """Before the first probe. Raises what `print` raises, as `end` does."""
        size = self._plan.size
        self._print(
            f"PING {self._server} ({self._plan.address.scheme}) {size} byte{'s' * (size != 1)} "
            "of data"
        )

    def sent(self) -> None:
        """One more probe is on its way. In a flood, each is a dot until it is answered, as of
        ping(8): the dots that are left are what is lost."""
        self.summary.sent += 1
        self._show(".")

    def answered(self, number: int, took: float, connect_took: float) -> None:
        """Probe `number` was answered rightly, after `took` seconds."""
        self.summary.received += 1
        self.summary.rtt.add(took)
        # As TCP does it (RFC 6298): an eighth of it is new.
        self.usual = took if self.usual is None else self.usual + (took - self.usual) / 8
        self._show("\b \b")
        connect = f" connect={connect_took * 1e3:.3f} ms" if self._plan.connect else ""
        self._say(
            f"{self._plan.size} bytes from {self._server}: seq={number}{connect} "
            f"time={took * 1e3:.3f} ms"
        )

    def bad_answer(self, answer: Answer) -> None:
        """An answer is wrong, or came at the wrong time."""
        self.summary.bad[answer.verdict.value] += 1
        self._show("\bE")
        detail = f" ({answer.detail})" if answer.detail else ""
        self._say(f"{_NAMES[answer.verdict]} from {self._server}: seq={answer.number}{detail}")

    def not_answered(self, number: int) -> None:
        """No answer to probe `number` came in time."""
        within = format_duration(self._plan.timeout)
        self._say(f"no answer from {self._server}: seq={number} (within {within})")

    def broken(self, error: OSError | AnysockError, number: int | None = None) -> None:
        """A connection could not be opened, or broke; which cost probe `number`, if any."""
        reason = printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        self.summary.errors[reason] += 1
        if number is not None:
            self._show("\bE")
        self._say(f"{reason}: {self._server}{'' if number is None else f': seq={number}'}")

    def end(self) -> None:
        """After the last probe: the statistics."""
        if self._plan.flood:
            self._mark("\n")
        for line in summary_lines(self.summary, self._server):
            self._print(line)

    def _show(self, mark: str) -> None:
        if self._plan.flood:
            self._write(self._mark, mark)

    def _say(self, line: str) -> None:
        if self._plan.flood:
            return
        if self._plan.stamps:
            line = f"[{current_engine().time():.6f}] {line}"
        self._write(self._print, line)

    def _write(self, write: Callable[[str], object], text: str) -> None:
        if self.failure is None:
            try:
                write(text)
            except OSError as error:
                # Raised here, it would be taken for an error of the connection.
                self.failure = error
                self._stop()


def summary_lines(summary: Summary, server: str) -> list[str]:
    """What is printed at the end."""
    share = 100 * summary.lost / max(summary.lost + summary.received, 1)
    lost, time = f"{summary.lost} lost ({share:.3g} %)", f"{summary.seconds * 1e3:.0f} ms"
    waiting = f"{summary.waiting} without an answer yet, " if summary.waiting else ""
    lines = [
        f"--- {server} ping statistics ---",
        f"{summary.sent} sent, {summary.received} received, {lost}, {waiting}time {time}",
    ]
    lines += [f"{count} {kind}" for kind, count in sorted((summary.bad + summary.errors).items())]
    for name, times in (("connect", summary.connect), ("rtt", summary.rtt)):
        if found := times.summary():
            known = [key for key in map("p{}".format, PERCENTILES) if found[key] is not None]
            more = f", {_figures(found, known)}" if known else ""
            lines.append(f"{name} {_figures(found, ('min', 'avg', 'max', 'mdev'))}{more}")
    return lines


def interim_line(summary: Summary) -> str:
    """How a run stands that goes on: what ping(8) prints at SIGQUIT."""
    found = summary.rtt.summary()
    times = f", rtt {_figures(found, ('min', 'avg', 'max', 'mdev'))}" if found else ""
    bad = f", {summary.bad.total()} bad" if summary.bad else ""
    return f"{summary.received}/{summary.sent} answered{bad}{times}"


def _figures(found: dict[str, float | None], keys: Sequence[str]) -> str:
    """``min/max = 1.000/2.000 ms``, of `keys`, all of which are known."""
    values = "/".join(f"{(found[key] or 0.0) * 1e3:.3f}" for key in keys)
    return f"{'/'.join(keys)} = {values} ms"
