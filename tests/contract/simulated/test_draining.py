"""The drain: who is ended, who goes on, and when it is over.

With real clients, once under each engine: `test_drain.py`.
"""

from __future__ import annotations

import contextlib
import signal
import ssl

import pytest

import anysock
from anysock import CloseReason, Connection, sim
from anysock.server.time_limits import QUIET_SECONDS
from anysock.server.traffic import CHECK_SECONDS
from tests.simulation import greeted, receive_all, send, serving, simulate, talk


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_server_without_clients_ends_at_once(signum):
    async def scenario(world):
        async with serving(world) as running:
            began = world.now
            running.signal(signum)
            assert await running.ended() == 0
            assert world.now - began < 0.001
            assert running.line("drained in 0.00 s")

    simulate(scenario)


def test_a_handshake_of_tls_that_goes_on_is_no_silence():
    """A record each 0.2 s, none of which brings data; and then it is served."""

    async def scenario(world):
        options = {"bind": "tls://:7", "tls_cert": sim.CERTIFICATE}
        async with serving(world, **options) as running, await running.connect() as client:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = sim.client_context().wrap_bio(incoming, outgoing, server_hostname="server")
            await running.until(lambda: running.server.connections, "it is accepted")
            running.signal()
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            await client.send_all(outgoing.read())
            while True:
                data = await client.recv()
                assert data, "it was ended before its handshake was done"
                incoming.write(data)
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    pass
            rest = outgoing.read()
            while rest:
                await world.sleep(0.2)
                size = 5 + int.from_bytes(rest[3:5])  # RFC 8446, 5.1
                await client.send_all(rest[:size])
                rest = rest[size:]
            tls.write(b"hello")
            await client.send_all(outgoing.read())
            answer = b""
            while not answer:
                data = await client.recv()
                assert data, "it was ended before it was answered"
                incoming.write(data)
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer = tls.read()
            assert answer == b"hello"
            await client.close()
            assert await running.ended() == 0

    simulate(scenario)


def test_new_connects_are_refused_at_once():
    async def scenario(world):
        async with serving(world) as running:
            [busy] = await greeted(running)
            running.signal()
            await world.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await running.connect()
            assert running.server.connections, "the drain was over before it was looked at"
            await busy.close()

    simulate(scenario)


@pytest.mark.parametrize("silent", [0, 0.1, 100])
def test_a_quiet_connection_is_ended(silent):
    """As soon as nothing has moved for so long, before the signal and after it."""

    async def scenario(world):
        async with serving(world, idle_timeout=0.8) as running:
            [quiet] = await greeted(running)
            spoke = world.now
            await world.sleep(min(silent, 0.5))
            running.signal()
            assert await quiet.recv() == b""
            await quiet.close()
            assert await running.ended() == 0
            # What has moved is known from the last look, a tenth of a second ago at the most.
            least = 0.5 if silent == 100 else QUIET_SECONDS
            assert least <= world.now - spoke <= least + 2 * CHECK_SECONDS + 0.1
            assert running.told.reasons == [CloseReason.DRAINED]

    simulate(scenario)


def test_a_half_sent_line_comes_back_when_its_sender_is_ended():
    async def scenario(world):
        async with serving(world, "lines") as running, await running.connect() as quiet:
            await quiet.send_all(b"half a li")
            await world.sleep(0.01)
            running.signal()
            assert await receive_all(quiet) == b"half a li"
            assert await running.ended() == 0

    simulate(scenario)


@pytest.mark.parametrize("pause", [0.3, 0.6, 29])
def test_a_reader_that_pauses_for_longer_than_quiet_loses_nothing(pause):
    """In flight is also what waits for its reader: no byte moves, yet it is not at rest."""

    async def scenario(world):
        async with serving(world, drain_timeout=30) as running, await running.connect() as client:
            size = 2_000_000
            sending = anysock.spawn(send(client, bytes(size)))
            await world.sleep(0.5)
            assert not sending.done, "both ways are full"
            running.signal()
            await world.sleep(pause)
            assert len(await client.recv_exactly(size)) == size
            await sending.join()
            assert await client.recv() == b""
            assert await running.ended() == 0

    simulate(scenario)


def test_busy_clients_go_on():
    async def scenario(world):
        async with serving(world) as running, await running.connect() as busy:
            await world.sleep(0.1)
            running.signal()
            for number in range(40):  # for much longer than a connection at rest is left in peace
                await busy.send_all(b"%02d" % number)
                assert await busy.recv_exactly(2) == b"%02d" % number
                await world.sleep(0.2)
            assert await busy.recv() == b""
            assert await running.ended() == 0

    simulate(scenario)


@pytest.mark.parametrize("timeout", [0.6, 60])
def test_who_takes_too_long_is_aborted(timeout):
    async def scenario(world):
        async with serving(world, drain_timeout=timeout) as running:
            running.expected_errors += ["aborted the connection", "1 connections were aborted"]
            running.expected_code = 1
            [endless] = await greeted(running)
            talking = anysock.spawn(talk(endless, timeout / 100 if timeout < 1 else 0.2))
            began = world.now
            running.signal()
            assert await running.ended() == 1
            assert timeout <= world.now - began < timeout + 0.01
            await talking.join()
            await endless.close()
            assert running.line("aborted the connection from")
            assert running.told.reasons == [CloseReason.ABORTED]

    simulate(scenario)


async def much(connection: Connection) -> None:
    await connection.send_all(bytes(5_000_000))


def test_who_never_reads_is_aborted():
    async def scenario(world):
        async with serving(world, much, drain_timeout=0.4) as running:
            running.expected_errors += ["aborted the connection", "1 connections were aborted"]
            running.expected_code = 1
            async with await running.connect() as client:
                await client.recv_exactly(1000)
                running.signal()
                assert await running.ended() == 1
                await world.sleep(0.1)
                with pytest.raises(ConnectionResetError):
                    await receive_all(client)

    simulate(scenario)


@pytest.mark.parametrize("cleaning_up", [0, 0.5, 5])
def test_a_handler_that_sleeps_is_cancelled(cleaning_up):
    """It may clean up; but who takes long for that is not waited for."""
    cleaned_up = []

    async def sleeper(connection: Connection) -> None:
        await connection.recv()
        try:
            await anysock.sleep(3600)
        finally:
            async with anysock.shielded(10):
                await anysock.sleep(cleaning_up)
            cleaned_up.append(True)

    async def scenario(world):
        async with serving(world, sleeper, drain_timeout=0.3) as running:
            running.expected_errors += ["abort", "left behind", "has not ended", "not end"]
            running.expected_code = 1
            async with await running.connect() as client:
                await client.send_all(b"x")
                await world.sleep(0.1)
                began = world.now
                running.signal()
                assert await running.ended() == 1
                assert abs(world.now - began - min(0.3 + cleaning_up, 1.05)) < 0.01
            assert bool(cleaned_up) == (cleaning_up < 1)

    simulate(scenario)


def test_chargen_comes_to_an_end_by_itself():
    async def scenario(world):
        async with serving(world, "chargen", drain_timeout=30) as running:
            async with await running.connect() as client:
                await client.recv_exactly(10_000)
                running.signal()
                began = world.now
                await receive_all(client)
                assert world.now - began < 1
            assert await running.ended() == 0

    simulate(scenario)


@pytest.mark.parametrize("stalled", [0.5, 5])
def test_who_waits_in_the_backlog_is_still_served(stalled):
    """Connected, but not accepted yet, when the signal comes: not turned away with a reset."""

    async def scenario(world):
        async with serving(world) as running:
            [first] = await greeted(running)
            running.host.stall()
            late = [await running.connect() for _ in range(5)]
            for client in late:
                await client.send_all(b"late\n")
            running.signal()
            await world.sleep(stalled)
            running.host.resume()
            for client in late:
                assert await receive_all(client) == b"late\n"
            for client in [first, *late]:
                await client.close()
            assert await running.ended() == 0
            assert running.told.reasons == 6 * [CloseReason.DRAINED]

    simulate(scenario)
