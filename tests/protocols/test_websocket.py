"""The example of WebSocket, with the package websockets, and with what that never sends."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import connect as connect_on_asyncio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.harness import CONCURRENT_ENGINES, PATIENCE, receive_all
from tests.protocols.conftest import program

REQUEST = (
    b"GET /echo HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# The answer to this key is in RFC 6455, 1.3.
ACCEPTED = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def server(request, serving):
    with serving("websocket.py", request.param) as server:
        yield server


def url(server, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


def test_websockets(server):
    with connect(url(server, "/echo"), compression=None, max_size=None) as client:
        for message in ("", "hello", "€" * 100, b"\0\xff", b"x" * 65535, b"y" * 1_048_576):
            client.send(message)
            assert client.recv(PATIENCE) == message
        client.send(["in ", "three ", "pieces"])
        assert client.recv(PATIENCE) == "in three pieces"
        client.ping(b"there?").wait(PATIENCE)
        client.close(4000, "enough")
        assert (client.close_code, client.close_reason) == (4000, "enough")
    with pytest.raises(InvalidStatus) as refused:
        connect(url(server, "/nowhere"))
    assert refused.value.response.status_code == 404


def test_websockets_on_asyncio_in_a_room(server):
    async def talk() -> None:
        where = url(server, "/room")
        async with connect_on_asyncio(where) as anna, connect_on_asyncio(where) as bob:
            # What is answered shows that both have joined.
            await (await anna.ping())
            await (await bob.ping())
            said = [str(number) for number in range(200)]
            for each in said:
                await anna.send(each)
            for hears in (anna, bob):
                assert [await hears.recv() for _ in said] == said

    asyncio.run(asyncio.wait_for(talk(), PATIENCE))


def frame(opcode: int, payload: bytes = b"", first: int = 0x80) -> bytes:
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    masked = bytes(each ^ b"mask"[at % 4] for at, each in enumerate(payload))
    return bytes([first | opcode]) + length + b"mask" + masked


FAULTY = {
    "not-masked": (b"\x81\x01a", 1002),
    "a-reserved-bit": (frame(1, b"a", first=0xC0), 1002),
    "an-unknown-opcode": (frame(3), 1002),
    "a-control-frame-in-pieces": (frame(9, first=0), 1002),
    "a-control-frame-that-is-long": (frame(9, b"x" * 126), 1002),
    "a-continuation-of-nothing": (frame(0, b"a"), 1002),
    "a-message-within-another": (frame(1, b"a", first=0) + frame(1, b"b"), 1002),
    "a-length-that-is-longer-than-need-be": (b"\x81\xfe\0\x01mask\0", 1002),
    "a-length-beyond-all-bounds": (b"\x81\xff" + b"\xff" * 8 + b"mask", 1002),
    "no-utf-8": (frame(1, b"\xff"), 1007),
    "no-utf-8-in-the-second-piece": (frame(1, b"\xe2\x82", first=0) + frame(0, b"\xe2"), 1007),
    "utf-8-that-is-cut-off": (frame(1, b"\xe2\x82"), 1007),
    "too-big": (b"\x82\xff" + (1_048_577).to_bytes(8, "big") + b"mask", 1009),
    "too-big-in-pieces": (
        frame(2, b"x" * 65_000, first=0) + frame(0, b"x" * 65_000, first=0) * 16,
        1009,
    ),
    "a-close": (frame(8, b"\x03\xe8bye"), 1000),
    "a-close-with-half-a-code": (frame(8, b"\x03"), 1002),
    "a-close-with-a-code-that-is-never-sent": (frame(8, b"\x03\xed"), 1002),
    "a-close-with-a-reason-that-is-no-utf-8": (frame(8, b"\x03\xe8\xff"), 1007),
}


def test_what_is_faulty_is_answered_by_a_close(server):
    for name, (faulty, code) in FAULTY.items():
        with server.connect() as client:
            client.sendall(REQUEST + frame(1, b"before") + faulty)
            _, accepted, rest = receive_all(client).partition(ACCEPTED)
        assert accepted, name
        assert rest.startswith(b"\x81\x06before\x88"), name
        assert rest[10:12] == code.to_bytes(2, "big"), name


def test_a_close_without_a_code_and_a_ping_between_fragments(server):
    fragments = frame(1, b"a", first=0) + frame(9, b"ping") + frame(0, b"b") + frame(8)
    answer = server.ask(REQUEST + fragments)
    assert answer.endswith(ACCEPTED + b"\x8a\x04ping" + b"\x81\x02ab" + b"\x88\x00")


def test_what_is_no_handshake_is_answered(server):
    for old, new, status in (
        (b"GET", b"POST", 405),
        (b"/echo", b"/", 404),
        (b"HTTP/1.1", b"HTTP/1.0", 400),
        (b"Host", b"Hosts", 400),
        (b"websocket\r", b"h2c\r", 426),
        (b", Upgrade", b"", 426),
        (b"13", b"8", 426),
        (b"dGhl", b"", 400),
        (b"dGhl", b"????", 400),
        (b"Host: ", b"Host: " + b"x" * 9000, 431),
    ):
        with server.connect() as client:
            client.sendall(REQUEST.replace(old, new))
            assert receive_all(client).startswith(b"HTTP/1.1 %d " % status), new


def test_a_drain_closes_in_good_order(serving, concurrent_engine):
    with serving("websocket.py", concurrent_engine) as server:
        with connect(url(server, "/room")) as client:
            client.ping().wait(PATIENCE)
            server.signal()
            with pytest.raises(ConnectionClosed):
                client.recv(PATIENCE)
            assert client.close_code == 1001
        assert server.wait() == 0


module = program("websocket.py")


@given(st.binary(max_size=99), st.binary(min_size=4, max_size=4))
def test_masks(payload, mask):
    expected = bytes(each ^ mask[at % 4] for at, each in enumerate(payload))
    assert module.unmasked(payload, mask) == expected
