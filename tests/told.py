"""A listener to events that keeps what it is told."""

from __future__ import annotations

import inspect
from typing import Any

from anysock import CloseReason, Events


class Told(Events):
    """Every event, in order: its name, and its arguments."""

    def __init__(self) -> None:
        self.events: list[tuple[str, tuple[Any, ...]]] = []

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of each event of that `name`."""
        return [arguments for each, arguments in self.events if each == name]

    @property
    def reasons(self) -> list[CloseReason]:
        """Why each connection that has ended did so."""
        return [reason for _, reason, _ in self.of("connection_closed")]


def _keep(name: str) -> Any:
    signature = inspect.signature(getattr(Events, name))

    def event(self: Told, *arguments: Any, **keywords: Any) -> None:
        bound = signature.bind(self, *arguments, **keywords)
        self.events.append((name, bound.args[1:]))

    return event


for _name in [name for name in vars(Events) if not name.startswith("_")]:
    setattr(Told, _name, _keep(_name))
