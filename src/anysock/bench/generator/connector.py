"""Opens the connections of a load, each with its conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysock.bench.generator.conversation import Conversation, pattern_of
from anysock.bench.generator.datagram_conversation import DatagramConversation
from anysock.bench.generator.engine import LoadEngine
from anysock.bench.generator.faults import Fault
from anysock.bench.generator.plan import Plan
from anysock.bench.generator.stream_conversation import StreamConversation
from anysock.bench.generator.tally import Tally
from anysock.clients.speaking_for import proxy_header
from anysock.engines.base import Stream
from anysock.engines.nonblocking.streams import NonblockingStream
from anysock.errors import TlsError
from anysock.net.addresses import ResolvedAddress, resolve
from anysock.tasks.connecting import datagrams_to
from anysock.tasks.happy_eyeballs import ATTEMPT_DELAY_SECONDS, connect_to_any

if TYPE_CHECKING:
    import ssl

# Patterns are shared by connections: with 5,000 of them, a pattern each would be too much.
_PATTERNS = 16


class Connector:
    """Opens connections to the address of `plan`, of which this process is worker `number`."""

    def __init__(self, engine: LoadEngine, plan: Plan, number: int, tally: Tally) -> None:
        self._engine = engine
        self._plan = plan
        self._number = number
        self._tally = tally
        self._patterns: dict[int, bytes] = {}
        self._addresses = resolve(plan.address, engine.machine, passive=False)
        #: The address that has answered.
        self._answered: ResolvedAddress | None = None
        self._preface = proxy_header(plan.send_proxy)
        self._context: ssl.SSLContext | None = None
        if plan.address.tls:
            from anysock.net.certificates import client_context

            self._context = client_context(plan.tls_ca, plan.insecure, plan.tls_cert, plan.tls_key)

    async def connected(self) -> Stream:
        """Connect; with TLS, until the handshake is done. Raises `Fault` and OSError."""
        begun = self._engine.kernel.clock()
        async with self._engine.scope(self._plan.timeout) as scope:
            stream = await self._connect()
            if self._preface is not None:
                await stream.send_all(self._preface(stream))
            if self._context is not None:
                stream = await self._start_tls(stream)
        if scope.fired:
            raise Fault("no connection in time")
        self._tally.connects.add(self._engine.kernel.clock() - begun)
        self._tally.opened += 1
        return stream

    async def open_stream(self, place: int) -> Conversation | StreamConversation:
        """Connect for slot `place`, as `connected` does, for messages and their echoes."""
        stream = await self.connected()
        size = self._plan.size
        number = self._pattern_number(place)
        if number not in self._patterns:
            self._patterns[number] = pattern_of(
                number, size, lines=self._plan.lines, frames=self._plan.frames
            )
        pattern = self._patterns[number]
        if isinstance(stream, NonblockingStream):
            return Conversation(self._engine.kernel, stream, pattern, size)
        return StreamConversation(self._engine.kernel, stream, pattern, size)

    def open_datagrams(self, place: int) -> DatagramConversation:
        """Open a UDP socket for slot `place`. Raises OSError."""
        datagrams = datagrams_to(self._engine, self._addresses)
        self._tally.opened += 1
        number = self._pattern_number(place)
        return DatagramConversation(datagrams, number, self._plan.size, self._tally.errors)

    def _pattern_number(self, place: int) -> int:
        """Neighbours differ, also those of other workers."""
        return (self._number + place * self._plan.processes) % _PATTERNS

    async def _start_tls(self, stream: Stream) -> Stream:
        from anysock.streams.tls import TlsStream

        assert self._context is not None
        hostname = self._plan.address.server_name
        tls = TlsStream(stream, self._context, server_side=False, hostname=hostname)
        try:
            await tls.handshake()
        except TlsError as error:
            await tls.close()
            raise Fault(str(error)) from None
        except BaseException:
            tls.abort()
            await tls.close()
            raise
        return tls

    async def _connect(self) -> Stream:
        """Connect to the address that has answered before; the first time, and when it refuses or
        is silent, to the first that answers."""
        if self._answered is not None:
            alone = len(self._addresses) == 1
            async with self._engine.scope(None if alone else ATTEMPT_DELAY_SECONDS):
                try:
                    return await self._engine.connect(*self._answered)
                except OSError:
                    if alone:
                        raise
        self._answered, stream = await connect_to_any(self._engine, self._addresses)
        return stream
