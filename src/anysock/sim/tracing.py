"""The trace of a history as one number: the same history has the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any


def hash_of_trace(trace: Iterable[Sequence[Any]]) -> str:
    """Of all that has happened, and when."""
    found = hashlib.blake2b(digest_size=16)
    for entry in trace:
        found.update(repr(entry).encode())
    return found.hexdigest()
