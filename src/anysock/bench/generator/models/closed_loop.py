"""A closed loop: each connection has `Plan.depth` messages in flight, and sends the next when one
comes back."""

from __future__ import annotations

from anysock.bench.generator.conversation import SMALL, Conversation
from anysock.bench.generator.models.model import LoadModel
from anysock.bench.generator.stream_conversation import StreamConversation


class ClosedLoop(LoadModel):
    """Sends as fast as it is answered."""

    async def _converse(self, conversation: Conversation | StreamConversation) -> None:
        plan, allow, settle = self._plan, self._tally.allow, self._tally.settle
        add, times, send = self._tally.echo.add, conversation.times, conversation.send

        def take_and_send(count: int, now: float) -> None:
            for _ in range(count):
                add(now - times.popleft())
            settle(count)
            send(allow(count), now)

        if plan.depth == 1 and plan.size <= SMALL and plan.messages is None:
            await conversation.ping_pong(self._clock, add)
        else:
            send(allow(plan.depth), self._clock())
            await conversation.receive(self._clock, take_and_send)
