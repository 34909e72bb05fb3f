"""An open loop: messages are sent on schedule, each on the next connection, whatever comes back."""

from __future__ import annotations

import collections
import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from anysock.bench.generator.conversation import Conversation
from anysock.bench.generator.datagram_conversation import DatagramConversation
from anysock.bench.generator.faults import kind_of
from anysock.bench.generator.models.model import LoadModel
from anysock.bench.generator.stream_conversation import StreamConversation
from anysock.bench.generator.tally import Tally


class Ring:
    """Connections that take turns in sending."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._ring: collections.deque[Conversation | StreamConversation | DatagramConversation] = (
            collections.deque()
        )

    @contextlib.contextmanager
    def joined(
        self, conversation: Conversation | StreamConversation | DatagramConversation
    ) -> Iterator[None]:
        """In the block, messages are sent on `conversation`, too."""
        self._ring.append(conversation)
        try:
            yield
        finally:
            self._ring.remove(conversation)

    def send(self, due: float) -> None:
        """Send a message, which was due then, on the connection that has waited the longest."""
        if self._ring:
            try:
                self._ring[0].send(1, due)
            except OSError as error:
                # The connection is broken: its receiver finds that out, and reports it. A reset is
                # reported to one call only, which was ours (tcp(7)).
                if error.errno != errno.EPIPE:
                    self._ring[0].fault = kind_of(error)
            self._ring.rotate(-1)
        else:
            self._tally.errors["no connection to send on"] += 1
            self._tally.lose(1)


class OpenLoop(LoadModel):
    """Sends on schedule."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._ring = Ring(self._tally)
        self.send = self._ring.send

    async def _converse(self, conversation: Conversation | StreamConversation) -> None:
        answered, times = self._tally.answered, conversation.times

        def take(count: int, now: float) -> None:
            for _ in range(count):
                answered(times.popleft(), now)

        with self._ring.joined(conversation):
            await conversation.receive(self._clock, take)
