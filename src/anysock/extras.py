"""What needs packages that are not always there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from anysock.errors import StartError


@contextlib.contextmanager
def needs(extra: str) -> Iterator[None]:
    """A module that can't be imported in the block is told as the extra that would bring it."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "anysock").partition(".")[0]
        if package == "anysock":
            raise
        raise StartError(
            f"this needs the package {package}: pip install 'anysock[{extra}]'"
        ) from None
