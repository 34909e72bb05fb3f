"""S12, answered: a handler has so many seconds, in all.

A TimeoutError is no failure of ours, and no traceback: one line says who was
too slow.
"""

import asyncio
import contextlib
import logging
import socket
import sys

MAX_LINE = 65536


async def lines(connection):
    """The lines of a client, with their ends; the last may have none."""
    loop = asyncio.get_running_loop()
    begun = b""
    while data := await loop.sock_recv(connection, 65536):
        *whole, begun = (begun + data).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(begun) > MAX_LINE:
            raise ValueError(f"a line longer than {MAX_LINE} bytes")
    if begun:
        yield begun


async def echo(connection):
    loop = asyncio.get_running_loop()
    async for line in lines(connection):
        if line.strip() == b"boom":
            raise RuntimeError("boom")
        await loop.sock_sendall(connection, line)


async def serve_one(connection, address, seconds):
    with connection:
        try:
            async with asyncio.timeout(seconds):
                await echo(connection)
        except TimeoutError:
            logging.warning("%s took longer than %g s", address, seconds)
        except ConnectionError:
            pass  # a client that is gone is a normal end
        except Exception:
            logging.exception("the handler of %s failed", address)


async def main(host="127.0.0.1", port=8000, seconds=60):
    loop = asyncio.get_running_loop()
    tasks = set()
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            connection, address = await loop.sock_accept(listener)
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            client = serve_one(connection, address, float(seconds))
            task = asyncio.create_task(client)
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
