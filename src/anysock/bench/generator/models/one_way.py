"""Throughput one way, as iperf3(1) measures it: to a server that takes everything, from one that
sends without end, or both at once. Nothing is answered, so there are no latencies."""

from __future__ import annotations

import math

from anysock.bench.generator.conversation import max_read, pattern_of
from anysock.bench.generator.faults import Fault
from anysock.bench.generator.models.model import LoadModel
from anysock.engines.base import Stream
from anysock.errors import AnysockError
from anysock.tasks.groups import task_group

# Bytes sent at once, at most. What is on its way is counted once it is sent.
_MAX_SENT = 262_144


class OneWayConversation:
    """A connection on which data flow, and no message is answered."""

    def __init__(self, stream: Stream, now: float) -> None:
        self.stream = stream
        #: No message of it waits for an answer.
        self.times: tuple[float, ...] = ()
        self.sent = math.inf
        #: Why it was given up.
        self.fault: str | None = None
        #: When data has last been sent, and received; infinite: none is to be.
        self.moved = [now, now]

    def waiting_since(self) -> float:
        """When data has last flowed the way that has been still for longer."""
        return min(self.moved)

    def give_up(self, kind: str) -> None:
        """Let it end with a `Fault` of that kind."""
        self.fault = kind
        self.stream.abort()

    async def close(self, reset: bool = False) -> None:
        """Close it. What the server has sent and nobody reads any more makes that a reset."""
        if reset or self.fault is not None:
            self.stream.abort()
        await self.stream.close()


class OneWay(LoadModel):
    """Sends, receives, or both, as fast as it can."""

    async def _open(self, place: int) -> OneWayConversation:
        stream = await self._connector.connected()
        return OneWayConversation(stream, self._clock())

    async def _converse(self, conversation: OneWayConversation) -> None:
        begun = self._clock()
        # Until the load began, nothing was to flow.
        conversation.moved = [
            begun if self._plan.sends else math.inf,
            begun if self._plan.receives else math.inf,
        ]
        try:
            async with task_group() as group:
                group.spawn(self._receive(conversation), "load-receiver")
                if self._plan.sends:
                    group.spawn(self._send(conversation), "load-sender")
        except ExceptionGroup as failed:
            raise _reason(conversation, failed) from None

    async def _send(self, conversation: OneWayConversation) -> None:
        tally, clock, send_all = self._tally, self._clock, conversation.stream.send_all
        data = memoryview(pattern_of(0, min(self._plan.size, _MAX_SENT)))
        data = data[: min(self._plan.size, _MAX_SENT)]
        while True:
            await send_all(data)
            tally.bytes_sent += len(data)
            conversation.moved[0] = clock()

    async def _receive(self, conversation: OneWayConversation) -> None:
        """Receive without end; where nothing is to come, notice what does, and the end."""
        tally, clock, recv = self._tally, self._clock, conversation.stream.recv
        most = max_read(self._plan.size)
        while data := await recv(most):
            if not self._plan.receives:
                raise Fault("an answer where none was due")
            tally.bytes_received += len(data)
            conversation.moved[1] = clock()
        raise Fault("closed by the server")

    def give_up(self, before: float) -> None:
        for each in list(self._conversations):
            if each.waiting_since() < before:
                each.give_up("no data in time")


def _reason(conversation: OneWayConversation, failed: ExceptionGroup[Exception]) -> Exception:
    """Why it has ended. When both ways failed, the receiver's error says more: the sender's is that
    the connection is broken."""
    if conversation.fault is not None:
        return Fault(conversation.fault)
    for kind in (Fault, OSError):
        for each in failed.exceptions:
            if isinstance(each, kind):
                return each
    if all(isinstance(each, AnysockError) for each in failed.exceptions):
        return Fault(str(failed.exceptions[0]))
    return failed
