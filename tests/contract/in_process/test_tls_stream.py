"""`TlsStream` under every engine: what every stream must do, and what only TLS can get wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import pytest

import anysock
from anysock.engines.base import Data
from anysock.engines.current import current_engine
from anysock.errors import StreamBroken, TlsError, TlsTruncated
from anysock.net.certificates import client_context, server_context
from anysock.streams.lock import Lock
from anysock.streams.tls import TlsStream
from anysock.streams.wrapping import WrappedStream
from tests.contract.in_process import test_streams
from tests.contract.in_process.test_streams import BULK, Check, close_all, receive, two_ends
from tests.contract.in_process.test_streams import receive_all as stream_receive_all
from tests.harness import LOOPBACK, PATIENCE, receive_all, reset
from tests.pki import TLS12, TLS13, Pki
from tests.tls_client import TlsClient

# What a stream must do, it must do with TLS, too: the same tests, with the `check` of this file.
globals().update(
    {
        name: test
        for name, test in vars(test_streams).items()
        if name.startswith("test_") and "check" in test.__code__.co_varnames[:1]
    }
)


def contexts(pki: Pki, version: ssl.TLSVersion = TLS13) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server, client = server_context(pki.server.cert, pki.server.key), client_context(pki.ca)
    server.maximum_version = version
    return server, client


@contextlib.asynccontextmanager
async def tls_ends(pki: Pki, version: ssl.TLSVersion) -> AsyncIterator[tuple[TlsStream, TlsStream]]:
    server, client = contexts(pki, version)
    async with two_ends(lambda stream: stream) as (near, far):
        inside = TlsStream(near, client, server_side=False, hostname="localhost")
        outside = TlsStream(far, server, server_side=True)
        async with anysock.task_group() as group:
            group.spawn(inside.handshake())
            group.spawn(outside.handshake())
        try:
            yield inside, outside
        finally:
            await close_all(inside, outside)


@pytest.fixture
def check(request, concurrent_engine, pki):
    """Run ``check(near, far)`` with two ends, that speak TLS 1.3 unless told otherwise."""
    version = getattr(request, "param", TLS13)

    def run(checking: Check) -> None:
        async def main() -> None:
            async with anysock.timeout(20), tls_ends(pki, version) as (near, far):
                await checking(near, far)

        anysock.run(main, engine=concurrent_engine)

    return run


BOTH_VERSIONS = pytest.mark.parametrize(
    "check", [TLS12, TLS13], indirect=True, ids=["TLS 1.2", "TLS 1.3"]
)


# -- what is special -------------------------------------------------------------------------------


@BOTH_VERSIONS
def test_a_half_close_in_either_version(check):
    async def talk(near, far):
        await near.send_all(b"the last word")
        await near.send_eof()
        await near.send_eof()
        assert await stream_receive_all(far) == b"the last word"
        answer = bytes(range(256)) * 4000
        sending = anysock.spawn(far.send_all(answer))
        assert await receive(near, len(answer)) == answer
        await sending.join()
        await far.send_eof()
        assert await stream_receive_all(near) == b""
        with pytest.raises(anysock.StreamClosed):
            await near.send_all(b"more")

    check(talk)


def test_receiving_can_be_ended_from_elsewhere_with_tls(check):
    async def talk(near, far):
        await near.send_all(b"what has arrived")
        assert await receive(far, 16) == b"what has arrived"
        ended = []

        async def wait():
            ended.append(await far.recv())

        async with anysock.task_group() as group:
            group.spawn(wait())
            while not far.receiving:
                await anysock.sleep(0.001)
            far.end_receiving()
        assert ended == [b""]
        assert far.lost is None
        await far.send_all(b"sending goes on")
        assert await receive(near, 15) == b"sending goes on"

    check(talk)


def test_what_has_arrived_is_received_before_the_end_of_receiving(check):
    async def talk(near, far):
        await near.send_all(b"0123456789")
        assert await far.recv(3) == b"012"
        far.end_receiving()
        assert await stream_receive_all(far) == b"3456789"

    check(talk)


@BOTH_VERSIONS
def test_a_close_before_the_session_tickets_are_read_loses_nothing(check):
    """A client that only sends, and closes, leaves them unread; closing such a socket is a reset,
    which may overtake what was sent."""

    async def talk(near, far):
        await near.send_all(b"x" * 100_000)
        closing = anysock.spawn(near.close())
        assert await stream_receive_all(far) == b"x" * 100_000
        await far.close()
        await closing.join()

    check(talk)


@BOTH_VERSIONS
def test_an_end_of_tcp_alone_is_a_loss(check):
    async def talk(near, far):
        await near.send_all(b"all is w")
        await near._inner.send_eof()
        assert await receive(far, 8) == b"all is w"
        for _ in range(2):
            with pytest.raises(TlsTruncated) as caught:
                await far.recv()
            assert far.lost is caught.value
        with pytest.raises(TlsTruncated) as caught:
            await far.send_all(b"x")
        assert far.lost is caught.value

    check(talk)


@BOTH_VERSIONS
def test_garbage_is_a_loss_and_the_peer_is_told(check):
    async def talk(near, far):
        await near._inner.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(TlsError, match="changed on its way") as caught:
            await far.recv()
        assert far.lost is caught.value
        with pytest.raises(TlsError, match="the server refuses") as caught:
            await near.recv()
        assert near.lost is caught.value

    check(talk)


@BOTH_VERSIONS
def test_a_send_that_is_given_up_is_the_end_of_sending(check):
    async def talk(near, far):
        async with anysock.move_on_after(0.3) as scope:
            await near.send_all(bytes(10 * BULK))
        assert scope.fired
        assert 0 < near.bytes_sent < 10 * BULK
        with pytest.raises(StreamBroken):
            await near.send_all(b"x")
        with pytest.raises(StreamBroken):
            await near.send_eof()
        closing = anysock.spawn(near.close())
        received = 0
        with pytest.raises((TlsTruncated, ConnectionResetError)):
            while data := await far.recv():
                received += len(data)
        assert received < 10 * BULK, "and the peer does not take it for the whole"
        await far.close()
        await closing.join()

    check(talk)


class Stuck(WrappedStream):
    """The peer reads no more, and the operating system's buffers are full."""

    async def send_all(self, data: Data) -> None:
        await anysock.sleep(3600)


@pytest.mark.parametrize("concurrent_engine", ["threads", "selector", "trio"], indirect=True)
def test_a_close_does_not_wait_for_ever_for_a_peer_that_does_not_read(check):
    async def talk(near, far):
        near._inner = Stuck(near._inner)
        began = current_engine().now()
        closing = anysock.spawn(near.close())
        with pytest.raises(TlsTruncated):
            await far.recv()
        await far.close()
        await closing.join()
        assert 0.5 < current_engine().now() - began < 5

    check(talk)


def test_a_send_that_is_given_up_before_a_byte_has_gone_is_the_end_of_sending_too(check):
    """Its records are numbered, and the peer would miss them."""

    async def talk(near, far):
        inner, near._inner = near._inner, Stuck(near._inner)
        async with anysock.move_on_after(0.01):
            await near.send_all(b"x")
        near._inner = inner
        with pytest.raises(StreamBroken):
            await near.send_all(b"x")
        near.abort()

    check(talk)


def test_no_more_is_taken_at_once_than_64_kib(check):
    """So much is kept of a peer that does not read what it is sent for it."""

    async def talk(near, far):
        sending = anysock.spawn(near.send_all(bytes(BULK)))
        received = most = 0
        while received < BULK:
            data = await far.recv()
            assert len(data) + far._session.held <= 2 * 65536
            received, most = received + len(data), max(most, len(data))
        await sending.join()
        assert 16384 < most <= 65536

    check(talk)


def test_a_sender_is_told_what_the_receiver_has_found(check):
    """Both meet the loss, each its own; the server knows a loss by `lost`."""

    class Lost(WrappedStream):
        async def send_all(self, data: Data) -> None:
            with pytest.raises(TlsTruncated):
                await far.recv()
            raise ConnectionResetError("by the network")

    far: Any = None

    async def talk(near, the_far):
        nonlocal far
        far = the_far
        await near._inner.send_eof()
        far._inner = Lost(far._inner)
        with pytest.raises(TlsTruncated) as caught:
            await far.send_all(b"x")
        assert caught.value is far.lost

    check(talk)


def test_a_turn_that_is_given_to_a_task_as_it_is_cancelled_goes_on(concurrent_engine):
    async def main():
        turn = Lock()

        async def take() -> str:
            async with turn:
                return "had its turn"

        async with anysock.timeout(10):
            async with turn:
                first, second = anysock.spawn(take()), anysock.spawn(take())
                while len(turn._waiting) < 2:
                    await anysock.sleep(0.001)
            first.cancel()
            assert await second.join() == "had its turn"
            assert not turn.taken

    anysock.run(main, engine=concurrent_engine)


def test_a_second_task_that_receives_is_told_so(check):
    async def talk(near, far):
        async with anysock.task_group() as group:
            group.spawn(receive(far, 1))
            while not far.receiving:
                await anysock.sleep(0.001)
            with pytest.raises(anysock.StreamBusy):
                await far.recv()
            await near.send_all(b"x")

    check(talk)


def test_one_record_feeds_many_small_receives_and_others_get_their_turn(concurrent_engine, pki):
    async def main():
        async with anysock.timeout(20), tls_ends(pki, TLS13) as (near, far):
            await near.send_all(bytes(10_000))
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    turns += 1
                    await anysock.sleep(0)

            counting = anysock.spawn(count())
            for _ in range(10_000):
                assert len(await far.recv(1)) == 1
            counting.cancel()
            assert turns > 100

    anysock.run(main, engine=concurrent_engine)


# -- peers that are not ours -----------------------------------------------------------------------


class Peer:
    """A client in a thread of its own, as ``peer(socket)``; `run` has the engine accept it."""

    def __init__(self, engine: str, context: ssl.SSLContext) -> None:
        self._engine = engine
        self._context = context

    def run(
        self,
        peer: Callable[[socket.socket], Any],
        serve: Callable[[TlsStream], Awaitable[Any]],
        shake: bool = True,
    ) -> tuple[Any, Any]:
        """What `peer`, and what `serve` has returned."""
        outcome: list[Any] = []

        async def main() -> Any:
            engine = current_engine()
            [listener] = engine.listen([LOOPBACK], 10)
            address: Any = listener.addresses[0]

            def run_peer() -> None:
                try:
                    with socket.create_connection(address, timeout=PATIENCE) as client:
                        outcome.append(peer(client))
                except BaseException as error:  # noqa: BLE001
                    outcome.append(error)

            thread = threading.Thread(target=run_peer)
            thread.start()
            stream = TlsStream(await engine.accept(listener), self._context, server_side=True)
            listener.close()
            try:
                async with anysock.timeout(PATIENCE):
                    if shake:
                        await stream.handshake()
                    return await serve(stream)
            finally:
                await stream.close()
                await anysock.to_thread(thread.join)

        served = anysock.run(main, engine=self._engine)
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0], served


@pytest.fixture
def peer(engine, pki) -> Peer:
    return Peer(engine, contexts(pki)[0])


async def echo(stream: TlsStream) -> int:
    total = 0
    while data := await stream.recv():
        await stream.send_all(data)
        total += len(data)
    return total


def test_a_client_of_pythons_own(peer, pki):
    data = bytes(range(256)) * 4000

    def client(sock):
        with client_context(pki.ca).wrap_socket(sock, server_hostname="localhost") as tls:
            sender = threading.Thread(target=tls.sendall, args=(data,))
            sender.start()
            received = b""
            while len(received) < len(data):
                received += tls.recv(65536)
            sender.join()
            tls.unwrap().close()  # sends close_notify, and waits for ours
        return received

    assert peer.run(client, echo) == (data, len(data))


def test_a_client_that_goes_without_a_word(peer, pki):
    def client(sock):
        with client_context(pki.ca).wrap_socket(sock, server_hostname="localhost") as tls:
            tls.sendall(b"hello")
            tls.recv(100)

    async def serve(stream):
        with pytest.raises((TlsTruncated, ConnectionResetError)) as caught:
            await echo(stream)
        assert stream.lost is caught.value
        return stream.bytes_received, stream.bytes_sent

    assert peer.run(client, serve)[1] == (5, 5)


def test_a_client_that_speaks_no_tls(peer):
    def client(sock):
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return receive_all(sock)

    async def serve(stream):
        with pytest.raises(TlsError, match="plain text on a TLS port") as caught:
            await stream.handshake()
        assert stream.lost is caught.value

    assert peer.run(client, serve, shake=False)[0] == b""


@pytest.mark.parametrize("go", [socket.socket.close, reset], ids=["close", "reset"])
def test_a_client_that_leaves_in_the_handshake(peer, go):
    def client(sock):
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
        go(sock)

    async def serve(stream):
        with pytest.raises(ConnectionError) as caught:
            await stream.handshake()
        assert stream.lost is caught.value

    peer.run(client, serve, shake=False)


def test_a_handshake_has_a_deadline_if_one_is_set(peer):
    silent = threading.Event()

    def client(sock):
        sock.sendall(b"\x16\x03\x01")
        assert silent.wait(PATIENCE)
        return receive_all(sock)

    async def serve(stream):
        async with current_engine().scope(0.05) as scope:
            await stream.handshake()
        assert scope.fired
        silent.set()

    assert peer.run(client, serve, shake=False)[0] == b""


def test_a_client_that_half_closes_gets_all_that_there_is_to_say(peer, pki):
    answer = bytes(range(256)) * 4000

    def client(sock):
        tls = TlsClient(sock, client_context(pki.ca))
        tls.send(b"question")
        tls.send_eof()
        return tls.receive_all()

    async def serve(stream):
        asked = await stream_receive_all(stream)
        await stream.send_all(answer)
        return asked

    assert peer.run(client, serve) == (answer, b"question")


def test_a_change_of_keys_while_another_task_sends(concurrent_engine, pki):
    """A receive must answer it, and may not meddle with what is being sent."""

    async def talk(stream, client):
        sent = bytearray()
        enough = False

        async def send() -> None:
            while not enough:
                piece = b"".join(b"%07d|" % (len(sent) + at) for at in range(0, 20_000, 8))
                await stream.send_all(piece)
                sent.extend(piece)
                await anysock.sleep(0.0005)
            await stream.send_eof()

        hearing = anysock.spawn(anysock.to_thread(client.hear))
        sending = anysock.spawn(send())
        for number in range(20):
            line = b"line %d\n" % number
            await anysock.to_thread(client.command, b"K", b"KEYUPDATE")
            client.say(line)
            assert await receive(stream, len(line)) == line
        enough = True
        await sending.join()
        assert await hearing.join() == bytes(sent)
        with contextlib.suppress(TlsTruncated):  # so it does end
            assert await stream.recv() == b""

    with_s_client(talk, concurrent_engine, pki)


def test_changes_of_keys_without_end_are_answered_and_none_is_kept(pki):
    async def talk(stream, client):
        before = stream._inner.bytes_sent
        receiving = anysock.spawn(stream.recv())
        while stream._inner.bytes_sent == before:
            await anysock.to_thread(client.command, b"K", b"KEYUPDATE")
        assert stream._session.output_pending < 4096
        assert stream.bytes_received == stream.bytes_sent == 0
        client.say(b"x")
        assert await receiving.join() == b"x"

    with_s_client(talk, "selector", pki)


def test_a_new_handshake_in_tls_1_2_is_refused(engine, pki):
    async def talk(stream, client):
        client.say(b"R\n")
        with pytest.raises(TlsError, match="the client refuses: handshake failure"):
            await stream.recv()
        assert b"no renegotiation" in await anysock.to_thread(client.complaint)

    with_s_client(talk, engine, pki, "-tls1_2")


def with_s_client(
    talk: Callable[[TlsStream, SClient], Awaitable[None]], engine: str, pki: Pki, *options: str
) -> None:
    """``talk(stream, client)`` with a client that is an ``openssl s_client``."""

    async def main() -> None:
        engine = current_engine()
        [listener] = engine.listen([LOOPBACK], 10)
        with SClient(pki, listener.addresses[0], *options) as client:
            inner = await engine.accept(listener)
            stream = TlsStream(inner, contexts(pki)[0], server_side=True)
            listener.close()
            try:
                async with anysock.timeout(PATIENCE):
                    await stream.handshake()
                    await talk(stream, client)
            finally:
                stream.abort()
                await stream.close()

    anysock.run(main, engine=engine)


class SClient:
    """``openssl s_client``, which does on command what Python's ssl can't."""

    def __init__(self, pki: Pki, address: Any, *options: str) -> None:
        command = ["openssl", "s_client", "-CAfile", str(pki.ca), "-brief", *options, "-connect"]
        self._process = subprocess.Popen(
            [*command, f"{address[0]}:{address[1]}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def say(self, words: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(words)
        stdin.flush()

    def command(self, letter: bytes, answer: bytes) -> None:
        """It takes a letter for a command only where a read of its own begins with it; `answer` is
        the line that it writes then."""
        self.say(letter + b"\n")
        stderr = self._process.stderr
        assert stderr is not None
        while stderr.readline().strip() not in (answer, b""):
            pass

    def hear(self) -> bytes:
        """All that it hears."""
        assert self._process.stdout is not None
        return self._process.stdout.read()

    def complaint(self) -> bytes:
        """All that it says of itself."""
        assert self._process.stderr is not None
        return self._process.stderr.read()
