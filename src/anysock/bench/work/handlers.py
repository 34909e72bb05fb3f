"""Our handlers of each kind of work, as their users write them: programs of the same text on the
streams of others are in ``bench/peers``.

$ anysock serve anysock.bench.work.handlers:lines
"""

from __future__ import annotations

from anysock.bench.work import http as mini_http
from anysock.bench.work import redis as mini_redis
from anysock.streams.connection import Connection

_store: mini_redis.Store = {}


async def lines(connection: Connection) -> None:
    """Send each line back, once it is complete."""
    async for line in connection.lines():
        await connection.send_all(line)


async def lines_in_batches(connection: Connection) -> None:
    """Send each line back, those that have come together by one send."""
    while lines := await connection.recv_lines():
        await connection.send_all(lines)


async def frames(connection: Connection) -> None:
    """Send each frame back, once it is complete."""
    async for frame in connection.frames():
        await connection.send_frame(frame)


async def frames_in_batches(connection: Connection) -> None:
    """Send each frame back, those that have come together by one send."""
    while frames := await connection.recv_frames():
        await connection.send_all([len(frame).to_bytes(4, "big") + frame for frame in frames])


async def redis(connection: Connection) -> None:
    """Answer commands of Redis."""
    session = mini_redis.Session(_store)
    while data := await connection.recv():
        await connection.send_all(session.receive(data))


async def http(connection: Connection) -> None:
    """Answer requests of HTTP/1.1."""
    session = mini_http.Session()
    while not session.over and (data := await connection.recv()):
        await connection.send_all(session.receive(data))
