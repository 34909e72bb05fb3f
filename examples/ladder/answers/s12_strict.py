"""S12, answered: no line is longer, whether its end has come or not.

The program looked at what has no end yet. A line that comes with its end in the
very receive that makes it too long was let pass.
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
            yield checked(line) + b"\n"
        checked(begun)
    if begun:
        yield begun


def checked(line):
    if len(line) > MAX_LINE:
        raise ValueError(f"a line longer than {MAX_LINE} bytes")
    return line


async def echo(connection):
    loop = asyncio.get_running_loop()
    async for line in lines(connection):
        if line.strip() == b"boom":
            raise RuntimeError("boom")
        await loop.sock_sendall(connection, line)


async def serve_one(connection, address):
    with connection:
        try:
            await echo(connection)
        except ConnectionError:
            pass  # a client that is gone is a normal end
        except Exception:
            logging.exception("the handler of %s failed", address)


async def main(host="127.0.0.1", port=8000):
    loop = asyncio.get_running_loop()
    tasks = set()
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            connection, address = await loop.sock_accept(listener)
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            task = asyncio.create_task(serve_one(connection, address))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
