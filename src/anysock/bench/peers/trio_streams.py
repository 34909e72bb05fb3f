"""trio: serve_tcp and SocketStream.

python trio_streams.py [echo|lines|frames|redis|http]
"""

import contextlib
import functools
import sys

import trio

from anysock.bench.work import http as mini_http
from anysock.bench.work import redis as mini_redis


class Reader:
    """trio's streams have no buffer: who needs lines or frames brings one."""

    def __init__(self, stream):
        self._stream = stream
        self._buffer = bytearray()

    async def readline(self):
        """The next line; at the end of the stream what is left of one."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched) + 1) == 0:
            searched = len(self._buffer)
            data = await self._stream.receive_some()
            if not data:
                end = searched
                break
            self._buffer += data
        return self._take(end)

    async def readexactly(self, size):
        """So many bytes; at the end of the stream what is left."""
        while len(self._buffer) < size:
            data = await self._stream.receive_some()
            if not data:
                break
            self._buffer += data
        return self._take(size)

    def _take(self, size):
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


async def echo(stream):
    async for data in stream:
        await stream.send_all(data)


async def lines(stream):
    reader = Reader(stream)
    while line := await reader.readline():
        await stream.send_all(line)


async def frames(stream):
    reader = Reader(stream)
    while prefix := await reader.readexactly(4):
        await stream.send_all(prefix + await reader.readexactly(int.from_bytes(prefix, "big")))


STORE = {}


async def redis(stream):
    session = mini_redis.Session(STORE)
    async for data in stream:
        await stream.send_all(session.receive(data))


async def http(stream):
    session = mini_http.Session()
    async for data in stream:
        await stream.send_all(session.receive(data))
        if session.over:
            break


HANDLERS = {"echo": echo, "lines": lines, "frames": frames, "redis": redis, "http": http}


def until_it_breaks(handler):
    async def handle(stream):
        with contextlib.suppress(trio.BrokenResourceError):
            await handler(stream)

    return handle


async def main(handler):
    async with trio.open_nursery() as nursery:
        handle = until_it_breaks(handler)
        serve = functools.partial(trio.serve_tcp, handle, 0, host="127.0.0.1", backlog=4096)
        listeners = await nursery.start(serve)
        print(listeners[0].socket.getsockname()[1], flush=True)


trio.run(main, HANDLERS[sys.argv[1] if len(sys.argv) > 1 else "echo"])
