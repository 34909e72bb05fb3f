"""`Witness`: a connection of a client, and what the client did and saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anysock.sim.oracles.below import socket_below
from anysock.sim.oracles.records import ClientRecord
from anysock.streams.connection import Connection
from anysock.tasks.connecting import connect

if TYPE_CHECKING:
    import ssl


class Witness:
    """Connects, sends and receives, and writes it down in `record`. `now` is the clock of the
    network.

    >>> async def client(world, host):
    ...     witness = Witness("1", host.name, lambda: world.now)
    ...     await witness.connect("server:7")
    ...     await witness.send(b"hello")
    ...     await witness.end()
    ...     await witness.read_all()
    ...     await witness.close()
    """

    def __init__(
        self, name: str, host: str, now: Callable[[], float], *, local: str | None = None
    ) -> None:
        self._now = now
        # The address to connect from, if that is to be a certain one.
        self._local = local
        self.record = ClientRecord(name, host, now())
        self._connection: Connection | None = None
        # The simulated socket below it.
        self._socket: Any = None

    @property
    def connection(self) -> Connection:
        """The connection. To be used once `connect` has returned True."""
        assert self._connection is not None
        return self._connection

    async def connect(self, address: str, tls: ssl.SSLContext | None = None) -> bool:
        """Connect; false when that fails."""
        self.record.began = self._now()
        try:
            self._connection = await connect(address, local=self._local, tls=tls)
        except OSError as error:
            self.record.refused = error.with_traceback(None)
            return False
        # Its host may be held up before it knows.
        sock = self._socket = socket_below(self._connection)
        self.record.connected = self._now() if sock is None else sock.connected_at
        self.record.local = self._connection.local
        return True

    async def send(self, data: bytes) -> bool:
        """Send; false when the connection is lost."""
        record = self.record
        record.sent += data
        record.sends.append((began := self._now(), len(record.sent)))
        try:
            await self.connection.send_all(data)
        except OSError as error:
            self._not_sent(error)
            return False
        finally:
            sock = self._socket
            if sock is not None and sock.in_size:
                record.unread.append((max(began, sock.came_at), self._now()))
        return True

    async def recv(self, max_bytes: int | None = None) -> bytes:
        """Receive; ``b""`` at the end, whatever it is."""
        record = self.record
        try:
            data = await self.connection.recv(max_bytes)
        except OSError as error:
            if record.ended is None:
                record.ended, record.end = self._now(), error.with_traceback(None)
            return b""
        if data:
            record.received += data
            record.receives.append((self._now(), len(record.received)))
        elif record.ended is None:
            record.ended = self._now()
        return data

    async def read_all(self) -> None:
        """Receive until the end."""
        while await self.recv():
            pass

    async def end(self) -> None:
        """End the stream, unless the connection is lost."""
        self.record.half_closed = self._now()
        try:
            await self.connection.send_eof()
        except OSError as error:
            self._not_sent(error)

    async def close(self) -> None:
        """Close the connection."""
        if self.record.closed is None:
            self.record.closed = self._now()
        await self.connection.close()

    async def reset(self) -> None:
        """Reset the connection."""
        self.record.aborted = self._now()
        self.connection.abort()
        await self.connection.close()

    def _not_sent(self, error: OSError) -> None:
        # No end yet: who receives may still find data, and a good end.
        self.record.unsent = self.record.unsent or error.with_traceback(None)
