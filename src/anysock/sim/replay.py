"""A failing history in a file: what was run, the plan, and what was wrong."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from anysock import __version__
from anysock.errors import StartError, UsageError
from anysock.sim import reading
from anysock.sim.finding import Finding
from anysock.sim.plan import Plan

#: What the file says that it is.
KIND = "anysock sim replay"


def versions() -> dict[str, str]:
    """Of what decides a history besides its plan."""
    return {"anysock": __version__, "python": platform.python_version()}


@dataclass(frozen=True, slots=True)
class Replay:
    """What is needed to run a history once more, and to compare."""

    handler: str
    check: str
    plan: Plan
    finding: Finding
    #: Of all that has happened.
    trace_hash: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "handler": self.handler,
            "check": self.check,
            "finding": self.finding.to_dict(),
            "trace_hash": self.trace_hash,
            "versions": self.versions,
            "plan": self.plan.to_dict(),
        }

    def write(self, path: Path) -> None:
        """Raises `StartError` when the file can't be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise StartError(f"can't write {path}: {error.strerror}") from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises `UsageError` for a file that can't be read, or is none of these."""
        where = str(path)
        try:
            text = path.read_bytes()
        except OSError as error:
            raise UsageError(f"can't read {where}: {error.strerror}") from None
        data = reading.parse(text, where)
        if not isinstance(data, dict) or data.get("kind") != KIND:
            raise UsageError(f"{where}: no file of a failing history, as `anysock sim` writes it")
        found = reading.record(data, where, ("kind", *cls.__slots__))

        def part(name: str) -> Any:
            return reading.needed(found, name, where)

        return cls(
            handler=reading.text(part("handler"), f"{where}: handler"),
            check=reading.text(part("check"), f"{where}: check"),
            plan=Plan.from_dict(part("plan"), f"{where}: plan"),
            finding=Finding.from_dict(part("finding"), f"{where}: finding"),
            trace_hash=reading.text(part("trace_hash"), f"{where}: trace_hash"),
            versions=reading.named(part("versions"), f"{where}: versions", reading.text),
        )

    def compared(self, finding: Finding | None, trace_hash: str) -> str:
        """How the history of `plan` has gone this time, in words."""
        if finding is None:
            told = f"it does not fail any more: it was {self.finding.text}"
        elif finding.kind != self.finding.kind:
            told = f"it fails in another way: it was {self.finding.text}"
        elif trace_hash == self.trace_hash:
            return "it fails in the same way, step for step"
        else:
            told = "it fails in the same way, but what leads to it differs"
        now = versions()
        changed = [
            f"{name} {was}, now {now.get(name, 'none')}"
            for name, was in self.versions.items()
            if now.get(name) != was
        ]
        return f"{told} (then {'; '.join(changed)})" if changed else told
