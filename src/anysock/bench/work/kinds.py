"""The kinds of work: who does each, and what is asked by default."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: The load generators of our own. Each is told by what it is called in `Settings.generator`.
OWN_GENERATORS = {"c": "the load generator in C", "python": "the load generator in Python"}


@dataclass(frozen=True)
class Kind:
    """A kind of work."""

    name: str
    #: Our handler of it, as ``anysock serve`` takes it.
    handler: str
    #: The server that ratios compare with, unless told otherwise; None: the one in C, or ours.
    baseline: str | None
    #: How the messages of `Plan` are formed.
    form: dict[str, Any] = field(default_factory=dict)
    connections: tuple[int, ...] = (50,)
    sizes: tuple[int, ...] = (64,)
    depths: tuple[int, ...] = (1, 16)

    #: The program of others that drives it, one of `DRIVERS`; None: our load generators do.
    driver: str | None = None
    #: What that is told to do.
    operations: tuple[str, ...] = ("",)
    #: Whether the answers have a size of their own, and requests come one at a time.
    fixed: bool = False
    #: Packages that matter to its figures.
    packages: tuple[str, ...] = ()
    #: Our handler of it that sends the answers to what has come together by one send.
    in_batches: str | None = None

    @property
    def is_echo(self) -> bool:
        """Whether a server need not know where a message ends."""
        return self.handler == "echo"


#: Young event loops of others for asyncio, which echo where their packages are installed.
OTHER_LOOPS = ("rloop", "talyn", "blazio", "zloop", "veloxloop", "loopmini")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "echo",
            "echo",
            baseline=None,
            connections=(1, 50, 500),
            sizes=(64, 4096, 262_144),
            depths=(1,),
            packages=OTHER_LOOPS,
        ),
        Kind(
            "lines",
            "anysock.bench.work.handlers:lines",
            baseline="asyncio streams",
            form={"lines": True},
            in_batches="anysock.bench.work.handlers:lines_in_batches",
        ),
        Kind(
            "frames",
            "anysock.bench.work.handlers:frames",
            baseline="asyncio streams",
            form={"frames": True},
            in_batches="anysock.bench.work.handlers:frames_in_batches",
        ),
        Kind(
            "redis",
            "anysock.bench.work.handlers:redis",
            baseline="asyncio streams",
            sizes=(3,),  # redis-benchmark's own default
            driver="redis-benchmark",
            operations=("SET", "GET"),
        ),
        Kind(
            "http",
            "anysock.bench.work.handlers:http",
            baseline="uvicorn h11 uvloop",
            sizes=(13,),  # the body's
            depths=(1,),
            driver="wrk",
            fixed=True,
            packages=("h11", "uvicorn"),
        ),
    )
}

ECHO = KINDS["echo"]
