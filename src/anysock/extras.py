"""What needs packages that are not always there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from anysock.errors import StartError


@contextlib.contextmanager
def needs(extra: str = "") -> Iterator[None]:
    """A module that can't be imported in the block is told as the extra that would bring it; or as
    the distribution itself, for what comes without an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "anysock").partition(".")[0]
        if package == "anysock":
            raise
        wanted = f"'anysock[{extra}]'" if extra else "anysock"
        raise StartError(f"this needs the package {package}: pip install {wanted}") from None
