"""What is wrong with a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from anysock.sim import reading


@dataclass(frozen=True, slots=True)
class Finding:
    """Two findings of the same kind are taken for the same fault: their words and times may
    differ."""

    #: Short, and the same whenever the fault is met: the oracle's name, the class of an error.
    kind: str
    #: What is wrong, in one line.
    text: str
    #: When it was seen, in virtual seconds.
    at: float = 0.0
    #: The occurrences of each kind of fault that had struck by then, as in `Plan.only`.
    occurrences: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "at": self.at}

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Self:
        """Raises `UsageError` for what is no finding."""
        found = reading.record(data, where, ("kind", "text", "at"))
        return cls(
            kind=reading.text(reading.needed(found, "kind", where), f"{where}.kind"),
            text=reading.text(found.get("text", ""), f"{where}.text"),
            at=reading.number(found.get("at", 0.0), f"{where}.at"),
        )
