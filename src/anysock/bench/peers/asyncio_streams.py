"""asyncio (or uvloop, with --uvloop): start_server, StreamReader and StreamWriter.

python asyncio_streams.py [--uvloop] [echo|lines|frames|redis|http]
"""

import asyncio
import contextlib
import sys

from anysock.bench.work import http as mini_http
from anysock.bench.work import redis as mini_redis


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def lines(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


async def frames(reader, writer):
    with contextlib.suppress(asyncio.IncompleteReadError):  # the end of the stream
        while True:
            prefix = await reader.readexactly(4)
            frame = await reader.readexactly(int.from_bytes(prefix, "big"))
            writer.write(prefix + frame)
            await writer.drain()


STORE = {}


async def redis(reader, writer):
    session = mini_redis.Session(STORE)
    while data := await reader.read(65536):
        writer.write(session.receive(data))
        await writer.drain()


async def http(reader, writer):
    session = mini_http.Session()
    while not session.over and (data := await reader.read(65536)):
        writer.write(session.receive(data))
        await writer.drain()


HANDLERS = {"echo": echo, "lines": lines, "frames": frames, "redis": redis, "http": http}


def closing(handler):
    async def handle(reader, writer):
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    return handle


async def main(handler):
    server = await asyncio.start_server(closing(handler), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


arguments = sys.argv[1:]
if "--uvloop" in arguments:
    import uvloop

    arguments.remove("--uvloop")
    run = uvloop.run
else:
    run = asyncio.run
run(main(HANDLERS[arguments[0] if arguments else "echo"]))
