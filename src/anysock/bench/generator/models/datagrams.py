"""A load over UDP, where a lost message holds up none of the others: as an open loop, or as a
closed one."""

from __future__ import annotations

from typing import Any

from anysock.bench.generator.datagram_conversation import DatagramConversation
from anysock.bench.generator.models.model import LoadModel
from anysock.bench.generator.models.open_loop import Ring


class DatagramLoad(LoadModel):
    """Sends numbered datagrams; what is not answered in time is lost."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ring = Ring(self._tally)
        self.send = self._ring.send

    async def _open(self, place: int) -> DatagramConversation:
        return self._connector.open_datagrams(place)

    async def _converse(self, conversation: DatagramConversation) -> None:
        tally = self._tally

        def take_and_send(due: float, now: float) -> None:
            tally.answered(due, now)
            conversation.send(tally.allow(1), now)

        if self._plan.rate is None:
            conversation.send(tally.allow(self._plan.depth), self._clock())
            await conversation.receive(self._clock, take_and_send)
        else:
            with self._ring.joined(conversation):
                await conversation.receive(self._clock, tally.answered)

    def give_up(self, before: float) -> None:
        """What was due before that time is lost. In a closed loop, others take its place."""
        for each in list(self._conversations):
            lost = each.expire(before)
            self._tally.lose(lost)
            if lost and self._plan.rate is None and not self._tally.over.is_set():
                each.send(self._tally.allow(lost), self._clock())
