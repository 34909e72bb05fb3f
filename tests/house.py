"""The house as its imports draw it: files, rooms, and who imports whom.

`tests/unit/test_house.py` holds the rules of the floors, and the documentation draws the map from
the same reading (``docs/_ext/house_map.py``).
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "anysock"


def files_of(source: Path = SOURCE) -> list[Path]:
    return sorted(source.rglob("*.py"))


def room_of(path: Path, source: Path = SOURCE) -> str:
    """The room of a file: its folder below `source`, or its own name if it is in none."""
    first = path.relative_to(source).parts[0]
    return first.removesuffix(".py")


def file_of(module: str, source: Path = SOURCE) -> Path | None:
    """The file of `module`, if it is one of the house."""
    path = source.parent / module.replace(".", "/")
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


@functools.cache
def imports_of(path: Path, source: Path = SOURCE) -> frozenset[Path]:
    """The files of the house that one imports, also only inside a function, or for its types."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                names.append(inside if file_of(inside, source) else node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    files = {file_of(name, source) for name in names}
    return frozenset(found for found in files if found and found != path)


def rooms_imported(source: Path = SOURCE) -> dict[str, set[str]]:
    """Each room, and the other rooms that its files import."""
    rooms: dict[str, set[str]] = {}
    for path in files_of(source):
        room = room_of(path, source)
        imported = {room_of(each, source) for each in imports_of(path, source)}
        rooms.setdefault(room, set()).update(imported - {room})
    return rooms
