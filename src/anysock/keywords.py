"""The options of a server as keywords of `serve` and `Server`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anysock.errors import WrongType
from anysock.options import ServeOptions


def options_of(options: ServeOptions | None, keywords: Mapping[str, Any]) -> ServeOptions:
    """The options that were given in one of the two ways. Raises TypeError for both, and as
    `ServeOptions` does."""
    if options is None:
        return ServeOptions(**keywords)
    if not isinstance(options, ServeOptions):
        raise WrongType(f"options= takes ServeOptions, or give them as keywords; not {options!r}")
    if keywords:
        raise TypeError("give ServeOptions or keywords, not both")
    return options
