"""What more connections cost: where throughput bends, and where the tail of the latency breaks."""

from __future__ import annotations

from dataclasses import dataclass

from anysock.bench.reports.wording import percentile_text, rate_text
from anysock.bench.results import Results, Row, Work

#: How many connections, unless told otherwise.
CONNECTIONS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

SIZE = 64

# Below this share of its best, throughput has bent.
_BENT = 0.8

# In a closed loop a client waits while others are served: on average for as long as it takes to
# serve all, which is connections / rate (Little's law). When the slowest 1 % wait several times
# as long, the service is not fair.
_BROKEN = 5.0


def works(connections: tuple[int, ...] = CONNECTIONS) -> tuple[Work, ...]:
    """The pieces of work of a sweep."""
    return tuple(Work(count, SIZE) for count in connections)


@dataclass(frozen=True)
class Scaling:
    """A sweep that was measured."""

    results: Results

    header = ("best", "at", "bends at", "p99 breaks at", "with most connections", "p99 there")
    meaning = (
        f"Throughput bends where it falls below {_BENT:.0%} of its best for the first time after "
        f"that; p99 breaks where it is more than {_BROKEN:g} times the mean latency for the first "
        "time: some clients then wait far longer than others."
    )

    @property
    def servers(self) -> list[str]:
        """Those that were measured."""
        return [name for name in self.results.settings.servers if self._rows(name)]

    def _rows(self, server: str) -> list[tuple[int, Row]]:
        return [
            (work.connections, row)
            for work in self.results.settings.works
            for row in self.results.rows(work)
            if row.server == server
        ]

    def rates(self, server: str) -> list[tuple[int, float]]:
        """Messages a second, by connections."""
        return [(count, row.rate) for count, row in self._rows(server)]

    def p99s(self, server: str) -> list[tuple[int, float]]:
        """Seconds, by connections; where there were enough messages to tell."""
        told = [(count, row.echo.told(99)) for count, row in self._rows(server)]
        return [(count, seconds) for count, seconds in told if seconds is not None]

    def best(self, server: str) -> tuple[int, float]:
        """At how many connections it is fastest, and how fast."""
        return max(self.rates(server), key=lambda point: point[1])

    def bend(self, server: str) -> int | None:
        """From how many connections on it is slower than its best; None: it is not."""
        at, most = self.best(server)
        after = [count for count, rate in self.rates(server) if count > at and rate < most * _BENT]
        return min(after, default=None)

    def breaks(self, server: str) -> int | None:
        """From how many connections on some clients wait far longer than others; None: never."""
        rates = dict(self.rates(server))
        unfair = [count for count, p99 in self.p99s(server) if p99 > _BROKEN * count / rates[count]]
        return min(unfair, default=None)

    def table(self) -> list[tuple[str, ...]]:
        """A row for each server, under `header`."""
        told: list[tuple[str, ...]] = []
        for server in self.servers:
            at, most = self.best(server)
            last, row = list(self._rows(server))[-1]
            told.append(
                (
                    server,
                    rate_text(most),
                    f"{at:,}",
                    _or_never(self.bend(server)),
                    _or_never(self.breaks(server)),
                    f"{rate_text(row.rate)} with {last:,}",
                    percentile_text(row.echo, 99),
                )
            )
        return told


def _or_never(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"
