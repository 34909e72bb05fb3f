"""Which faults a simulated network has: a plan of them, as text, and the decisions of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Self

from anysock.engines.sim.chance import Chance
from anysock.engines.sim.dice import Dice, hash_of
from anysock.engines.sim.fates import Fate, FatedKinds, FaultKind, Ledger, Recurrence
from anysock.engines.sim.fault_kinds import FAULTS, PRESETS
from anysock.errors import UsageError

__all__ = ["FAULTS", "PRESETS", "FaultPlan", "Faults", "parse"]

_NUMBER: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(us|ms|s|min|h|%|B|KiB|)")
_UNITS: Final = {
    "us": (1e-6, "seconds"),
    "ms": (1e-3, "seconds"),
    "s": (1.0, "seconds"),
    "min": (60.0, "seconds"),
    "h": (3600.0, "seconds"),
    "%": (0.01, "probability"),
    "B": (1.0, "bytes"),
    "KiB": (1024.0, "bytes"),
}

_SEEDS: Final = {name: hash_of("fault", name) for name in FAULTS}

# Of two figures with these names, the first is the lower.
_ORDERED: Final = ("least", "most")


@dataclass(frozen=True)
class FaultPlan:
    """The kinds of faults that are on, each with the parameters that differ from the defaults.

    Raises `UsageError` for a kind or a parameter that there is not, or a value that it can't have.
    """

    kinds: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: MappingProxyType({}))
    #: Of a kind that is named here, only these occurrences happen; of the others, all do. One is
    #: named by its subject and its number there, from 0, as in `Faults.occurrences`: a name that
    #: stays when others are left out. Or by its number among all of its kind: ``#3``.
    only: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name, parameters in self.kinds.items():
            _check(name, parameters)
        for name in self.only:
            _check(name, {})

    def parameters(self, name: str) -> dict[str, float]:
        """All parameters of a kind that is on."""
        return {**FAULTS[name].defaults, **self.kinds[name]}

    def without(self, *names: str) -> Self:
        """The same, with these kinds off."""
        return replace(self, kinds={n: each for n, each in self.kinds.items() if n not in names})

    def including(self, name: str, **parameters: float) -> Self:
        """The same, with this kind on."""
        return replace(self, kinds={**self.kinds, name: parameters})

    def keeping(self, name: str, occurrences: Iterable[str]) -> Self:
        """The same, with only these occurrences of a kind."""
        return replace(self, only={**self.only, name: tuple(occurrences)})

    def met(self, *present: str) -> list[str]:
        """The kinds that can strike in a world which has what is `present`, of
        `fault_kinds.NEEDS`."""
        return [name for name in self.kinds if FAULTS[name].needs in present]

    def inert(self, fired: Mapping[str, int]) -> list[str]:
        """The kinds that were asked for, and have changed nothing: what was tested, was tested
        without them."""
        return [name for name in self.kinds if not fired.get(name)]

    def __str__(self) -> str:
        """As `parse` reads it."""
        return ",".join(
            ":".join((name, *(f"{each}={value:g}" for each, value in parameters.items())))
            for name, parameters in self.kinds.items()
        )


def _check(name: str, parameters: Mapping[str, float]) -> None:
    fault = FAULTS.get(name)
    if fault is None:
        raise UsageError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}")
    for each, value in parameters.items():
        parameter = fault.parameters.get(each)
        if parameter is None:
            known = ", ".join(fault.parameters)
            raise UsageError(f"the fault {name!r} has no {each!r}; it has {known}")
        if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
            raise UsageError(f"{name}: {each} is {value!r}: expected a number, from 0 up")
        if parameter.unit == "probability" and value > 1:
            raise UsageError(f"{name}: {each} is {value:g}: expected from 0 to 1, or 0% to 100%")
    whole = {**fault.defaults, **parameters}
    least, most = (whole.get(each) for each in _ORDERED)
    if least is not None and most is not None and not 0 < least <= most:
        raise UsageError(f"{name}: least is {least:g}, and most is {most:g}")


def parse(text: str) -> FaultPlan:
    """The plan that `text` says: kinds of faults and presets, with commas between them.

    ``reset=0.01`` sets the first parameter of a kind, ``stall:every=1s:lasts=200ms`` any of them;
    a ``-`` before a kind turns it off again, as in ``hostile,-reset``. Raises `UsageError`.
    """
    kinds: dict[str, Mapping[str, float]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        if part in PRESETS:
            kinds |= PRESETS[part]
        elif part.startswith("-"):
            if part[1:] in PRESETS:
                for name in PRESETS[part[1:]]:
                    kinds.pop(name, None)
            else:
                _check(part[1:], {})
                kinds.pop(part[1:], None)
        else:
            name, parameters = _parse_kind(part)
            kinds[name] = parameters
    return FaultPlan(kinds)


def _parse_kind(part: str) -> tuple[str, dict[str, float]]:
    first, *others = part.split(":")
    name, is_set, value = first.partition("=")
    fault = FAULTS.get(name)
    if fault is None:
        names = ", ".join((*PRESETS, *FAULTS))
        raise UsageError(f"there is no fault {name!r}; there are {names}")
    settings = [(next(iter(fault.parameters)), value)] if is_set else []
    for other in others:
        each, is_set, value = other.partition("=")
        if not is_set:
            raise UsageError(f"expected NAME=VALUE after {name!r}, not {other!r}")
        settings.append((each, value))
    parameters = {}
    for each, value in settings:
        _check(name, {each: fault.defaults.get(each, 0)})
        parameters[each] = _parse_number(value, f"{name}: {each}", fault.parameters[each].unit)
    return name, parameters


def _parse_number(text: str, what: str, unit: str) -> float:
    match = _NUMBER.fullmatch(text)
    factor, of = _UNITS.get(match[2], (1.0, unit)) if match else (0.0, "")
    if match is None or of != unit:
        example = {"seconds": "0.2 or 200ms", "probability": "0.05 or 5%", "bytes": "512 or 4KiB"}
        raise UsageError(f"{what} is {text!r}: expected a number, as {example.get(unit, '3')}")
    return round(float(match[1]) * factor, 9)


class Faults:
    """The decisions of one run. What is decided for a subject (a connection, a host, a link) comes
    from a stream of its kind and its own: one kind that is turned off, or one client that is not
    there, shifts nothing of the others."""

    def __init__(self, plan: FaultPlan, chance: Chance) -> None:
        self.plan = plan
        self.ledger = Ledger(chance.fired)
        seed = hash_of(chance.seed, "faults")
        self.kinds = {
            name: FaultKind(name, plan.parameters(name), seed ^ _SEEDS[name], self.ledger)
            for name in plan.kinds
        }
        for name, occurrences in plan.only.items():
            if name in self.kinds:
                self.kinds[name].only = frozenset(occurrences)
        self._fated = FatedKinds(self.kinds)
        self._has_fates = bool(self._fated)

    def fate(self, subject: str, *, connects: bool) -> Fate | None:
        """What is to happen to one end of a connection; None: nothing ever. `connects` says
        whether it is the end that has asked for the connection."""
        return Fate(self._fated, subject, connects) if self._has_fates else None

    def recurrence(self, name: str, subject: str) -> Recurrence | None:
        """When a kind strikes at `subject`; None: it is off."""
        kind = self.kinds.get(name)
        return None if kind is None else Recurrence(kind, subject, hash_of(subject))

    def times(self, name: str, subject: str) -> tuple[Recurrence, list[tuple[float, Dice]]] | None:
        """When a kind strikes that comes at times of its own, at a host or a link: how many seconds
        after the one before, each with a stream for what is chance besides."""
        recurrence = self.recurrence(name, subject)
        if recurrence is None:
            return None
        dice, parameters = recurrence.dice, recurrence.kind.parameters
        found = []
        for number in range(int(parameters["times"])):
            waits = dice.exponential(parameters["every"])
            found.append((waits, Dice(hash_of(recurrence.kind.seed, subject, number))))
        return recurrence, found

    def heal(self) -> None:
        """From now on, nothing strikes any more."""
        for kind in self.kinds.values():
            kind.healed = True

    @property
    def occurrences(self) -> dict[str, list[str]]:
        """What has happened, by kind: the names of the occurrences, as `FaultPlan.only` takes
        them."""
        found: dict[str, list[str]] = {}
        for name, subject, number in self.ledger.happened:
            found.setdefault(name, []).append(f"{subject}#{number}")
        return found
