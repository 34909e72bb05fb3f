"""Whose code a file is."""

from __future__ import annotations

import enum
import functools
import os
import sysconfig

import anysock


class Origin(enum.Enum):
    """Whose code it is."""

    USER = enum.auto()
    ANYSOCK = enum.auto()
    #: An installed library's.
    LIBRARY = enum.auto()
    STANDARD = enum.auto()
    #: A part of the standard library that does something beside the program.
    ASIDE = enum.auto()
    #: The part that imports modules.
    IMPORT = enum.auto()


_OURS = os.path.join(os.path.dirname(os.path.abspath(anysock.__file__)), "")
_STANDARD = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))

# What parts of it are, by their modules.
_PARTS = {
    **dict.fromkeys(
        (
            "bdb", "cmd", "doctest", "gettext", "linecache", "locale", "logging", "pdb",
            "traceback", "unittest", "warnings", "zoneinfo",
        ),
        Origin.ASIDE,
    ),
    "importlib": Origin.IMPORT,
}  # fmt: skip


@functools.cache
def origin_of(file: str) -> Origin:
    """Whose code is in `file`, as a code object names it."""
    if file.startswith("<frozen "):
        return Origin.IMPORT if file.startswith("<frozen importlib") else Origin.STANDARD
    if file.startswith(_OURS):
        return Origin.ANYSOCK
    parts = file.split(os.sep)
    if "site-packages" in parts or "dist-packages" in parts:
        return Origin.LIBRARY
    for folder in _STANDARD:
        if file.startswith(folder):
            part = file[len(folder) :].partition(os.sep)[0].removesuffix(".py")
            return _PARTS.get(part, Origin.STANDARD)
    if file.startswith("<") and file not in ("<stdin>", "<string>") and not _is_user(file):
        return Origin.LIBRARY
    return Origin.USER


def _is_user(file: str) -> bool:
    # As doctest and IPython name what is typed.
    return file.startswith(("<doctest ", "<ipython"))
