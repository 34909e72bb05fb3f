"""To plant a fault: the source is changed while it is imported. On disk nothing changes."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from tests.house import SOURCE


class NotPlanted(Exception):
    """The source is not what the change was made for."""


@dataclass(frozen=True)
class Change:
    """In `file`, a path below the sources, `new` stands in the place of `old`, which is there
    once."""

    file: str
    old: str
    new: str

    @property
    def module(self) -> str:
        return ".".join(("anysock", *Path(self.file).with_suffix("").parts))

    def applied(self, source: str) -> str:
        if (found := source.count(self.old)) != 1:
            raise NotPlanted(f"{self.file} has {found} times, and not once, {self.old!r}")
        return source.replace(self.old, self.new)


def changed(file: str, changes: Sequence[Change]) -> str:
    """The source of `file` with all its `changes`."""
    source = (SOURCE / file).read_text()
    for change in changes:
        if change.file == file:
            source = change.applied(source)
    return source


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with its changes, whichever way it is asked for the source."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: str) -> bytes:
        return self._source.encode() if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        # Not by way of the cache of compiled modules.
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, changes: Sequence[Change]) -> None:
        self._sources = {each.module: changed(each.file, changes) for each in changes}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._sources:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(name, spec.origin, self._sources[name])
        return spec


def plant(changes: Sequence[Change]) -> None:
    """From now on the modules are imported with `changes`, for as long as this process lives.

    Raises `NotPlanted` when one of the texts is not there, or a module has been imported already.
    """
    if imported := sorted({each.module for each in changes} & set(sys.modules)):
        raise NotPlanted(f"imported already: {', '.join(imported)}")
    sys.meta_path.insert(0, _Finder(changes))
