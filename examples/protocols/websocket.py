"""A WebSocket server (RFC 6455): an echo at /echo, and at /room a room where each hears all.

    python examples/protocols/websocket.py --bind 127.0.0.1:8765
    python -m websockets ws://127.0.0.1:8765/room

A server that knows its users by their cookies has to look at the Origin header as well (10.2).
"""

import argparse
import base64
import binascii
import codecs
import hashlib
import sys

import anysock

MAX_HEAD = 8192  # bytes of the request
MAX_MESSAGE = 1 << 20  # bytes of a message, of all its fragments together
HANDSHAKE_SECONDS = 10

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# Codes of a close (7.4.1).
GOING_AWAY, PROTOCOL_ERROR, NOT_UTF8, TOO_BIG = 1001, 1002, 1007, 1009

# One that does not read must leave when this much waits for it.
room = anysock.Broadcast(max_items=1000, max_bytes=4 * MAX_MESSAGE, when_full="disconnect")


class Refused(Exception):
    """The request is no handshake: its text is the answer."""


class Closing(Exception):
    """The conversation ends with this close."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()


def encode_frame(opcode: int, payload: bytes) -> bytes:
    """A whole message in one frame. A server does not mask (5.1)."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 127]) + size.to_bytes(8, "big")
    return head + payload


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """`payload` xor `mask`, over and over: as two large numbers, that is done at once."""
    size = len(payload)
    masks = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(masks, "big")).to_bytes(size, "big")


async def receive_frame(connection: anysock.Connection, most: int) -> tuple[bool, int, bytes]:
    """Whether it is a message's last one, its opcode, and its payload (5.2)."""
    first, second = await connection.recv_exactly(2)
    last, opcode, size = bool(first & 0x80), first & 0x0F, second & 0x7F
    if first & 0x70 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise Closing(PROTOCOL_ERROR, "an extension that was not agreed on")
    if not second & 0x80:
        raise Closing(PROTOCOL_ERROR, "a client's frame is masked")
    if opcode >= CLOSE and (size > 125 or not last):
        raise Closing(PROTOCOL_ERROR, "a control frame is short, and in one piece")
    if size > 125:
        width, least = (2, 126) if size == 126 else (8, 65536)
        size = int.from_bytes(await connection.recv_exactly(width), "big")
        if not least <= size < 1 << 63:
            raise Closing(PROTOCOL_ERROR, "a length is written as short as can be")
    if opcode < CLOSE and size > most:
        raise Closing(TOO_BIG, f"a message has at most {MAX_MESSAGE} bytes")
    mask = await connection.recv_exactly(4)
    return last, opcode, unmasked(await connection.recv_exactly(size), mask)


async def receive(connection: anysock.Connection, outbox: anysock.Outbox) -> tuple[int, bytes]:
    """The next message: whether it is TEXT or BINARY, and its bytes. Between its fragments there
    may be control frames (5.4)."""
    kind, message = 0, bytearray()
    check = codecs.getincrementaldecoder("utf-8")()
    while True:
        last, opcode, payload = await receive_frame(connection, MAX_MESSAGE - len(message))
        if opcode == PING:
            await outbox.send(encode_frame(PONG, payload))
        elif opcode == CLOSE:
            raise answer_to_close(payload)
        elif opcode != PONG:
            if (opcode == CONTINUATION) != bool(kind):
                raise Closing(PROTOCOL_ERROR, "a message is continued until it ends")
            kind = kind or opcode
            message += payload
            try:
                if kind == TEXT:
                    check.decode(payload, last)
            except UnicodeDecodeError:
                raise Closing(NOT_UTF8, "a text is in UTF-8") from None
            if last:
                return kind, bytes(message)


def answer_to_close(payload: bytes) -> Closing:
    """The peer has closed: it gets its own code back, if it may be sent (7.4)."""
    if not payload:
        return Closing(None)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (
        1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    ):
        return Closing(PROTOCOL_ERROR, "no such code")
    try:
        return Closing(code, payload[2:].decode())
    except UnicodeDecodeError:
        return Closing(NOT_UTF8, "a reason is in UTF-8")


async def shake_hands(connection: anysock.Connection) -> str:
    """Answer the HTTP request that asks for a WebSocket (4.2), and return its path."""
    head = await connection.recv_until(b"\r\n\r\n", max_bytes=MAX_HEAD)
    request, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    method, _, rest = request.partition(" ")
    path, _, version = rest.partition(" ")
    if version != "HTTP/1.1" or "host" not in headers:
        raise Refused("400 Bad Request")
    if method != "GET":
        raise Refused("405 Method Not Allowed\r\nAllow: GET")
    if path not in ("/echo", "/room"):
        raise Refused("404 Not Found")
    upgrades = headers.get("upgrade", "").lower() == "websocket"
    tokens = [each.strip() for each in headers.get("connection", "").lower().split(",")]
    if not upgrades or "upgrade" not in tokens or headers.get("sec-websocket-version") != "13":
        need = "Upgrade: websocket\r\nSec-WebSocket-Version: 13"
        raise Refused(f"426 Upgrade Required\r\n{need}")
    key = headers.get("sec-websocket-key", "").encode()
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise Refused("400 Bad Request")
    except binascii.Error:
        raise Refused("400 Bad Request") from None
    proof = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    await connection.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % base64.b64encode(proof)
    )
    return path


async def handler(connection: anysock.Connection) -> None:
    try:
        async with anysock.timeout(HANDSHAKE_SECONDS):
            path = await shake_hands(connection)
    except (Refused, anysock.MessageTooLong) as error:
        status = error if isinstance(error, Refused) else "431 Request Header Fields Too Large"
        answer = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        return await connection.send_all(answer.encode())
    # What others say, pongs and answers must not be mixed up: one task sends them all.
    async with room.join(connection) if path == "/room" else anysock.Outbox(connection) as outbox:
        try:
            while True:
                message = encode_frame(*await receive(connection, outbox))
                await (room.publish(message) if path == "/room" else outbox.send(message))
        except Closing as closing:
            await outbox.send(encode_frame(CLOSE, closing.payload))
        except anysock.EndOfStream:
            if connection.draining:
                await outbox.send(encode_frame(CLOSE, Closing(GOING_AWAY).payload))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:8765")
    parser.add_argument("-e", "--engine", default="selector")
    sys.exit(anysock.serve(handler, **vars(parser.parse_args())) > 0)
