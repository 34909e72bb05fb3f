"""``--corrupt``: now and then, a byte is changed."""

from __future__ import annotations

import logging
import random

from anysock.engines.base import Stream
from anysock.streams.wrapping import PartingStream

_log = logging.getLogger("anysock.faults")


class CorruptStream(PartingStream):
    """Changes one byte in a `share` (0 to 1) of what is sent, as `chance` has it.

    The share is of the calls of `send_all`, whatever their size: an answer is mostly one.
    """

    def __init__(self, inner: Stream, share: float, chance: random.Random) -> None:
        super().__init__(inner)
        self._share = share
        self._chance = chance

    async def _send_part(self, data: memoryview) -> int:
        part: bytes | memoryview = data
        if self._chance.random() < self._share:
            place = self._chance.randrange(len(data))
            wrong = bytearray(data)
            wrong[place] ^= self._chance.randrange(1, 256)
            _log.debug(
                "corrupt on purpose: byte %d of %d to %s is 0x%02x, not 0x%02x",
                *(place, len(data), self.peer, wrong[place], data[place]),
                extra={"peer": self.peer},
            )
            part = bytes(wrong)
        await self._inner.send_all(part)
        return len(data)
