"""A record of TLS that comes slowly is no silence: bytes arrive all the time."""

from __future__ import annotations

import ssl

import pytest

import anysock
from anysock import sim


class Dripping:
    """A client of TLS over a plain connection, whose records can be sent piece by piece."""

    def __init__(self, connection: anysock.Connection) -> None:
        self._connection = connection
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = sim.client_context()
        self._tls = context.wrap_bio(self._come, self._go, server_hostname="server")

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._connection.send_all(self._go.read())
                self._come.write(await self._connection.recv())
        await self._connection.send_all(self._go.read())

    def record(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._go.read()


@pytest.mark.parametrize("pause", [0.5, 3.0])
def test_a_record_that_comes_slowly_is_no_silence(pause):
    ends: list[tuple[str, int]] = []

    class Ends(anysock.Events):
        def connection_closed(self, connection, reason, error):
            ends.append((reason.name, connection.bytes_received))

    async def scenario(world: sim.World) -> None:
        world.host("server").serve(
            "discard",
            bind="tls://:7",
            tls_cert=sim.CERTIFICATE,
            idle_timeout=1,
            events=Ends(),
        )
        async with await anysock.connect("server:7") as connection:
            client = Dripping(connection)
            await client.handshake()
            record = client.record(bytes(1000))
            try:
                for start in range(0, len(record), 100):
                    await connection.send_all(record[start : start + 100])
                    await anysock.sleep(pause)
            except OSError:
                pass  # it was cut off

    sim.World(1, faults="none").run(scenario)
    assert ends == [("LOST", 1000) if pause < 1 else ("IDLE", 0)]
