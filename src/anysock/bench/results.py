"""What a comparison of servers is made of: the work, the settings, what was measured, and what
follows from that."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from anysock import __version__
from anysock.bench.generator.latencies import Latencies
from anysock.bench.load import Outcome
from anysock.bench.servers import Server
from anysock.bench.statistics import Estimate
from anysock.bench.work.kinds import ECHO
from anysock.engines import ENGINES
from anysock.errors import UsageError
from anysock.options.units import format_size

#: Within how much of the median its interval must be.
PRECISION = 0.05

# Fewer values have no interval.
_FEWEST_ROUNDS = 6

_LAYOUT = 1


@dataclass(frozen=True)
class Work:
    """What a server is made to do."""

    connections: int
    size: int
    depth: int = 1
    #: Connect, echo one message, close: over and over.
    churn: bool = False
    #: SO_RCVBUF and SO_SNDBUF of the server, in bytes; None: what the system gives.
    socket_buffer: int | None = None
    #: The name of its `Kind`.
    kind: str = ECHO.name
    #: Which of those that the kind has.
    operation: str = ""

    @property
    def name(self) -> str:
        if self.churn:
            return f"connect, echo {format_size(self.size)}, close"
        kind = "" if self.kind == ECHO.name else f"{self.kind} {self.operation}".strip() + ", "
        depth = f", {self.depth} on the way" if self.depth > 1 else ""
        buffer = f", buffers {format_size(self.socket_buffer)}" if self.socket_buffer else ""
        return f"{kind}{self.connections} × {format_size(self.size)}{depth}{buffer}"


@dataclass(frozen=True)
class Settings:
    """How a comparison is made. Times in seconds."""

    works: tuple[Work, ...]
    servers: tuple[str, ...]
    baseline: str
    seconds: float = 0.7
    warmup: float = 0.3
    most_rounds: int = 10
    #: ``c`` or ``python``.
    generator: str = "c"
    #: Idle connections whose memory is measured; 0: none.
    idle: int = 2000

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass
class Measurement:
    """One server, one piece of work, one round. CPU times in seconds a message."""

    work: str
    server: str
    round: int
    rate: float
    cpu: float | None
    user: float | None
    system: float | None
    load_cpu: float
    echo: str

    @classmethod
    def of(cls, work: Work, server: Server, number: int, outcome: Outcome) -> Measurement:
        cpu, each = outcome.server_cpu, 1 / outcome.messages
        return cls(
            work.name,
            server.name,
            number,
            outcome.rate,
            None if cpu is None else cpu.total * each,
            None if cpu is None else cpu.user * each,
            None if cpu is None else cpu.system * each,
            max(outcome.load_cpu),
            outcome.echo.encode(),
        )


@dataclass
class Row:
    """What is told of a server at one piece of work."""

    server: str
    rate: float
    ratio: Estimate | None
    cpu: float | None
    user: float | None
    system: float | None
    #: CPU time a message, as a ratio to the base line's.
    cpu_ratio: float | None
    echo: Latencies
    rounds: int
    #: Whether the load side was busy all the time, and the server not.
    load_bound: bool


@dataclass
class Results:
    """All that was measured, and how."""

    settings: Settings
    machine: dict[str, Any]
    measurements: list[Measurement] = field(default_factory=list)
    #: By server: bytes of an idle connection, and the share of a core that they all cost.
    idle: dict[str, dict[str, float]] = field(default_factory=dict)
    #: By server: why it was not measured, or what went wrong.
    missing: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    def of(self, work: Work, server: str) -> list[Measurement]:
        """The rounds of one server at one piece of work."""
        return [m for m in self.measurements if m.work == work.name and m.server == server]

    def ratios(self, work: Work, server: str, figure: str = "rate") -> list[float]:
        """Its ratios to the base line, round by round."""
        base = {m.round: getattr(m, figure) for m in self.of(work, self.settings.baseline)}
        pairs = [(getattr(m, figure), base.get(m.round)) for m in self.of(work, server)]
        return [mine / theirs for mine, theirs in pairs if mine is not None and theirs]

    def enough(self, work: Work, server: str) -> bool:
        """Whether more rounds would tell nothing more of it."""
        if server == self.settings.baseline:
            return len(self.of(work, server)) >= _FEWEST_ROUNDS
        ratios = self.ratios(work, server)
        within = Estimate.of(ratios).within if ratios else None
        return within is not None and within <= PRECISION

    def rows(self, work: Work) -> list[Row]:
        """Of each server that was measured at this work, in the order of the settings."""
        return [self._row(work, name) for name in self.settings.servers if self.of(work, name)]

    def _row(self, work: Work, server: str) -> Row:
        rounds = self.of(work, server)

        def median(figure: str) -> float | None:
            values = [v for m in rounds if (v := getattr(m, figure)) is not None]
            return Estimate.of(values).median if values else None

        echo = Latencies()
        for measurement in rounds:
            echo.merge(Latencies.decode(measurement.echo))
        ratios = self.ratios(work, server)
        cpu_ratios = self.ratios(work, server, "cpu")
        rate, cpu, load_cpu = median("rate"), median("cpu"), median("load_cpu")
        assert rate is not None
        assert load_cpu is not None
        return Row(
            server,
            rate,
            Estimate.of(ratios) if ratios else None,
            cpu,
            median("user"),
            median("system"),
            Estimate.of(cpu_ratios).median if cpu_ratios else None,
            echo,
            len(rounds),
            load_bound=cpu is not None and load_cpu > 0.95 and cpu * rate < 0.9,
        )

    def save(self, path: Path, *, tables: bool = True) -> None:
        """Write all to `path`, so that it is never half written; with the figures of the tables,
        which take a second to make of many measurements, or without."""
        new = path.with_name(path.name + ".new")
        told = dataclasses.asdict(self) | {"layout": _LAYOUT}
        if tables:
            told["tables"] = self._tables()
        new.write_text(json.dumps(told, indent=1) + "\n")
        new.replace(path)

    def _tables(self) -> dict[str, Any]:
        """The figures that the reports show, for whoever reads the file."""
        tables: dict[str, Any] = {}
        for work in self.settings.works:
            tables[work.name] = {
                row.server: dataclasses.asdict(row) | {"echo": row.echo.summary()}
                for row in self.rows(work)
            }
        return tables

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `save` wrote. Raises `UsageError` when it is no such file."""
        try:
            told = json.loads(path.read_text())
            if told["layout"] != _LAYOUT:
                raise KeyError("layout")
            settings = told["settings"]
            works = tuple(Work(**work) for work in settings.pop("works"))
            servers = tuple(settings.pop("servers"))
            return cls(
                Settings(works=works, servers=servers, **settings),
                told["machine"],
                [Measurement(**each) for each in told["measurements"]],
                told["idle"],
                told["missing"],
                told["complete"],
            )
        except OSError as error:
            raise UsageError(f"can't read {path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{path} is not a file that `anysock bench --json` wrote") from None


def this_machine(packages: Sequence[str] = ()) -> dict[str, Any]:
    """What a reader must know to compare figures with those of another machine, with the versions
    of our engines' packages and of these."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(": ")[2]
                break
    versions = {"anysock": __version__, "python": platform.python_version()}
    for package in filter(None, (*(engine.requires for engine in ENGINES.values()), *packages)):
        with contextlib.suppress(ImportError):
            versions[package] = metadata.version(package)  # PackageNotFoundError is one of these
    return {
        "processor": model,
        "cores": len(cores()),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
    }


def cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
