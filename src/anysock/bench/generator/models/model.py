"""What a worker asks of each kind of load, and what all kinds share."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from anysock.bench.generator.connector import Connector
from anysock.bench.generator.conversation import Conversation
from anysock.bench.generator.datagram_conversation import DatagramConversation
from anysock.bench.generator.engine import LoadEngine
from anysock.bench.generator.plan import Plan
from anysock.bench.generator.stream_conversation import StreamConversation
from anysock.bench.generator.tally import Tally
from anysock.tasks.groups import task_group

# After a failure, before the next attempt to connect, so that a server that is gone is not flooded.
_RETRY_SECONDS = 0.1

#: How many connections are opened at a time: more than a backlog holds would wait for a retry of
#: TCP's, a second later.
CONNECTING_AT_ONCE = 16


class LoadModel:
    """What the connections of a load do.

    Each has a slot, in which it is opened again after it broke. A kind of load says how one is
    opened (`_open`), and what is done with it until it breaks (`_converse`).
    """

    #: In an open loop: sends one message, which was due then.
    send: Callable[[float], None]

    def __init__(self, engine: LoadEngine, plan: Plan, tally: Tally, connector: Connector) -> None:
        self._engine = engine
        self._clock = engine.kernel.clock
        self._plan = plan
        self._tally = tally
        self._connector = connector
        self._conversations: dict[Any, None] = {}
        #: The first connection of each slot, until the load starts.
        self._prepared: dict[int, Any] = {}

    # -- what a worker asks ---------------------------------------------------------------------

    async def prepare(self) -> int:
        """Open the first connection of each slot, as far as that can be done; returns how many."""

        async def open_some(places: Iterator[int]) -> None:
            for place in places:
                with self._tally.errors.counted():
                    self._prepared[place] = await self._open(place)

        places = iter(range(self._plan.connections))
        async with task_group() as group:
            for _ in range(CONNECTING_AT_ONCE):
                group.spawn(open_some(places))
        return len(self._prepared)

    async def run_slot(self, place: int) -> None:
        """Load the server on one connection, for ever."""
        conversation = self._prepared.pop(place, None)
        while True:
            with self._tally.errors.counted():
                if conversation is None:
                    await self._engine.sleep(_RETRY_SECONDS)
                    conversation = await self._open(place)
                async with self._open_until_done(conversation):
                    await self._converse(conversation)
            conversation = None

    @property
    def connected(self) -> int:
        """How many connections are open."""
        return len(self._conversations)

    def waiting(self) -> int:
        """How many messages were due, and are not answered."""
        return sum(len(each.times) for each in self._conversations)

    def give_up(self, before: float) -> None:
        """Give up what was due before that time, and is not answered."""
        for each in list(self._conversations):
            if each.waiting_since() < before:
                each.give_up("no answer in time")

    # -- what a kind says -----------------------------------------------------------------------

    async def _open(self, place: int) -> Any:
        """The conversation of slot `place`, over a new connection. Raises `Fault` and OSError."""
        return await self._connector.open_stream(place)

    async def _converse(self, conversation: Any) -> None:
        """Send and receive, until that ends with a `Fault` or an OSError."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def _open_until_done(
        self, conversation: Conversation | StreamConversation | DatagramConversation
    ) -> AsyncIterator[None]:
        """In the block the conversation counts as connected. After it, what it has not been
        answered is lost, and it is closed."""
        self._conversations[conversation] = None
        try:
            yield
        finally:
            del self._conversations[conversation]
            lost = len(conversation.times) or conversation.sent != math.inf
            try:
                await conversation.close(self._plan.reset)
            finally:
                # Last: this may end the load, whose report is to have the error as well, which is
                # counted when this returns.
                self._tally.lose(lost)
