"""The kinds of faults that a simulated network has: their names, parameters, and what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: What a world must have for a kind of fault to strike there: connections, who accepts them,
#: datagrams, hosts beside that of the scenario, links between hosts, somebody who reads the wall
#: clock, several tasks.
NEEDS = ("streams", "accepting", "datagrams", "hosts", "links", "clock", "tasks")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A figure of a kind of fault. `unit` is ``seconds``, ``bytes``, ``probability`` or empty."""

    default: float
    unit: str
    help: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault. The first of its `parameters` is the one that ``NAME=VALUE`` sets."""

    name: str
    help: str
    needs: str
    parameters: Mapping[str, Parameter]
    #: The figures that its parameters have when nothing else is said.
    defaults: Mapping[str, float]


def _probability(default: float, of: str) -> Parameter:
    return Parameter(default, "probability", f"how often it strikes: of each {of}")


def _every(default: float, of: str) -> Parameter:
    return Parameter(default, "seconds", f"the mean time between two of them, for each {of}")


def _lasts(default: float) -> Parameter:
    return Parameter(default, "seconds", "how long it lasts, at most")


def _times(default: float, of: str) -> Parameter:
    return Parameter(default, "", f"how often it strikes, at most, for each {of}")


def _kinds() -> dict[str, Fault]:
    found: dict[str, Fault] = {}

    def kind(name: str, needs: str, text: str, **parameters: Parameter) -> None:
        assert needs in NEEDS
        defaults = {each: parameter.default for each, parameter in parameters.items()}
        found[name] = Fault(
            name, text, needs, MappingProxyType(parameters), MappingProxyType(defaults)
        )

    # What happens on the way.
    kind(
        "latency",
        "links",
        "each link has a latency of its own, one way",
        most=Parameter(0.1, "seconds", "the longest"),
        least=Parameter(0.0005, "seconds", "the shortest"),
    )
    kind(
        "jitter",
        "links",
        "what is sent is on its way longer than that; it stays in order",
        most=Parameter(0.02, "seconds", "how much longer, at most"),
    )
    kind(
        "split",
        "streams",
        "a segment arrives in two pieces, one after the other",
        probability=_probability(0.2, "segment"),
        gap=Parameter(0.01, "seconds", "how far apart, at most"),
    )
    kind(
        "merge",
        "streams",
        "a segment is kept until the next one, and comes with it",
        probability=_probability(0.1, "segment"),
        lasts=_lasts(0.05),
    )
    kind(
        "reset",
        "streams",
        "something on the way resets a connection, both ends of it",
        probability=_probability(0.005, "segment"),
    )
    kind(
        "half-open",
        "streams",
        "a connection falls silent for ever: the peer is gone without a word",
        probability=_probability(0.003, "segment"),
    )
    kind(
        "partition",
        "links",
        "nothing gets through between two hosts, and TCP repeats it later",
        every=_every(2.0, "pair of hosts"),
        lasts=_lasts(2.0),
        times=_times(2, "pair of hosts"),
    )
    kind(
        "one-way",
        "links",
        "nothing gets through from one host to another, but the other way round",
        every=_every(2.0, "pair of hosts"),
        lasts=_lasts(2.0),
        times=_times(2, "pair of hosts"),
    )
    kind(
        "hold",
        "links",
        "all between two hosts is kept, and let go together",
        every=_every(1.0, "pair of hosts"),
        lasts=_lasts(0.5),
        times=_times(3, "pair of hosts"),
    )

    # What a system call says.
    kind(
        "partial",
        "streams",
        "a send takes less than there is room for",
        probability=_probability(0.2, "send"),
    )
    kind(
        "short",
        "streams",
        "a receive returns less than has come",
        probability=_probability(0.2, "receive"),
    )
    kind(
        "refuse",
        "accepting",
        "a connect is refused",
        probability=_probability(0.05, "connect"),
    )
    kind(
        "backlog",
        "accepting",
        "a listener's backlog is full: the SYN is dropped, and repeated later",
        probability=_probability(0.1, "SYN"),
    )
    for name, what, probability in (
        ("emfile", "the process has no descriptor left", 0.05),
        ("enfile", "the system has no descriptor left", 0.02),
        ("enobufs", "the system has no memory left for sockets", 0.02),
    ):
        kind(
            name,
            "accepting",
            f"accept fails with {name.upper()}: {what}",
            probability=_probability(probability, "accept"),
            lasts=_lasts(0.3),
        )

    # What the other end does, or has.
    kind(
        "small-buffers",
        "streams",
        "an end has small buffers to send from and to receive in",
        probability=_probability(0.5, "end of a connection"),
        least=Parameter(128, "bytes", "the smallest"),
        most=Parameter(4096, "bytes", "the largest"),
    )
    kind(
        "zero-window",
        "streams",
        "a receiver lets nothing be sent for a while, though it has room",
        probability=_probability(0.02, "segment"),
        lasts=_lasts(0.5),
    )
    kind(
        "slow-reader",
        "streams",
        "a client reads little at a time, with pauses",
        probability=_probability(0.2, "connection"),
        bytes=Parameter(256, "bytes", "how much at a time, at most"),
        lasts=_lasts(0.05),
    )

    # What happens to a host.
    kind(
        "crash",
        "hosts",
        "what runs on a host is killed, or its machine loses its power; later it starts again",
        every=_every(3.0, "host"),
        lasts=_lasts(2.0),
        times=_times(1, "host"),
        power=Parameter(0.3, "probability", "how often it is the power"),
    )
    kind(
        "stall",
        "hosts",
        "a host stands still, as by SIGSTOP; its system goes on",
        every=_every(2.0, "host"),
        lasts=_lasts(1.0),
        times=_times(2, "host"),
    )
    kind(
        "clock",
        "clock",
        "the wall clock of a host jumps, forward or back",
        every=_every(1.0, "host"),
        most=Parameter(7200.0, "seconds", "how far, at most"),
        times=_times(3, "host"),
    )
    kind(
        "slow-step",
        "tasks",
        "a step of a task takes long, and all others of its host wait",
        probability=_probability(0.01, "turn of a host"),
        lasts=_lasts(0.1),
    )

    # Datagrams.
    kind("loss", "datagrams", "a datagram is lost", probability=_probability(0.05, "datagram"))
    kind(
        "duplicate",
        "datagrams",
        "a datagram comes twice",
        probability=_probability(0.05, "datagram"),
        lasts=Parameter(0.05, "seconds", "how long after the first, at most"),
    )
    kind(
        "reorder",
        "datagrams",
        "a datagram is overtaken by others",
        probability=_probability(0.1, "datagram"),
        lasts=Parameter(0.05, "seconds", "how much later it comes, at most"),
    )

    kind(
        "schedule",
        "tasks",
        "tasks and descriptors that are ready take their turns in another order",
        changes=Parameter(
            0, "", "0: any order; else they have priorities, which change so often (PCT)"
        ),
        steps=Parameter(500, "", "within how many steps of tasks the priorities change"),
    )
    return found


#: All kinds, by name, in the order in which they are told of.
FAULTS: Mapping[str, Fault] = MappingProxyType(_kinds())

#: Kinds of faults that belong together, by name, each with the parameters that differ from the
#: defaults.
PRESETS: Mapping[str, Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "none": {},
        # What a good network does, on a good day.
        "calm": {
            "latency": {"most": 0.005},
            "jitter": {"most": 0.001},
            "split": {"probability": 0.05},
            "merge": {"probability": 0.05, "lasts": 0.005},
            "partial": {"probability": 0.05},
            "short": {"probability": 0.05},
            "schedule": {},
        },
        # What happens on a bad one; nobody is to blame.
        "rough": {
            "latency": {},
            "jitter": {},
            "split": {},
            "merge": {},
            "partial": {},
            "short": {},
            "reset": {"probability": 0.002},
            "hold": {},
            "backlog": {"probability": 0.03},
            "small-buffers": {"probability": 0.25},
            "zero-window": {},
            "slow-reader": {"probability": 0.1},
            "slow-step": {},
            "loss": {"probability": 0.02},
            "duplicate": {"probability": 0.02},
            "reorder": {},
            "schedule": {},
        },
        # All but a crash, which a scenario has to be made for.
        "hostile": {name: {} for name in FAULTS if name != "crash"},
        "all": {name: {} for name in FAULTS},
    }
)
