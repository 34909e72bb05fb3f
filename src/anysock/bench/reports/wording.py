"""How figures are written."""

from __future__ import annotations

from anysock.bench.generator.latencies import PERCENTILES, Latencies

#: In the place of a percentile that there are too few samples for.
TOO_FEW = "–"
TOO_FEW_MEANS = (
    f"{TOO_FEW} too few for that percentile: it takes 10 beyond it, so a p50 takes 20, a p99 1,000"
)


def time_text(seconds: float) -> str:
    """Three significant digits, with the unit that fits."""
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds * 1e6)} µs"


def percentile_text(latencies: Latencies, percent: float) -> str:
    """The time of a percentile; `TOO_FEW` where there are too few samples for it."""
    told = latencies.told(percent)
    return TOO_FEW if told is None else time_text(told)


#: The header of a table of latencies.
LATENCY_HEADER = ("", "count", "min", *(f"p{percent:g}" for percent in PERCENTILES), "max")


def latency_row(name: str, latencies: Latencies) -> tuple[str, ...]:
    """A row of that table."""
    points = (0.0, *PERCENTILES, 100.0)
    times = (percentile_text(latencies, percent) for percent in points)
    return (name, f"{len(latencies):,}", *times)


def rate_text(rate: float) -> str:
    """Whole messages a second, in groups of three digits."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def bytes_text(number: float) -> str:
    """Bytes, three significant digits, in powers of 1000 as networks count."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{_three_digits(number)} {unit}"
        number /= 1000
    return f"{_three_digits(number)} GB"


def flow_text(bytes_a_second: float) -> str:
    """Throughput one way, as disks count it and as networks do."""
    bits = 8 * bytes_a_second
    for unit in ("bit", "kbit", "Mbit"):
        if bits < 1000:
            return f"{bytes_text(bytes_a_second)}/s, {_three_digits(bits)} {unit}/s"
        bits /= 1000
    return f"{bytes_text(bytes_a_second)}/s, {_three_digits(bits)} Gbit/s"


#: What a one-way load does, by its mode.
ONE_WAY = {
    "sink": "one way: data to the server",
    "source": "one way: data from the server",
    "both": "both ways at once; nothing is answered",
}


def _three_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"
