"""trio: serve_tcp and SocketStream."""

import functools

import trio


async def echo(stream):
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


async def main():
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1", backlog=4096)
        listeners = await nursery.start(serve)
        print(listeners[0].socket.getsockname()[1], flush=True)


trio.run(main)
