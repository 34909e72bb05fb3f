"""Chance that can be repeated: a seeded stream for each concern."""

from __future__ import annotations

import collections
import random


class Chance:
    """The streams of one world. A concern that draws more or less than before, or not at all,
    shifts what no other draws."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        #: How often each kind of fault has changed something.
        self.fired: collections.Counter[str] = collections.Counter()
        self._streams: dict[str, random.Random] = {}

    def stream(self, name: str) -> random.Random:
        """The stream of one concern, such as ``"latency"`` or ``"client/17"``."""
        stream = self._streams.get(name)
        if stream is None:
            # Seeded by a text, it depends on no hash seed (random.seed, version 2).
            stream = self._streams[name] = random.Random(f"{self.seed}/{name}")
        return stream
