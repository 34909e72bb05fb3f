"""S10, answered: a listener that blocks.

Without setblocking(False), accept() sleeps as in S4, and the loop with it: no
client is served until the next one connects. In debug mode, asyncio looks, and
says so. (The sockets that sock_accept() hands out are told by asyncio itself.)
"""

import asyncio
import contextlib
import socket
import sys


async def echo(connection):
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(connection, 65536):
            print(f"I got data: {data}!")
            await loop.sock_sendall(connection, data)


async def main(host="127.0.0.1", port=8000):
    loop = asyncio.get_running_loop()
    # asyncio refers to its tasks weakly: one that nobody else refers to may be
    # collected while it waits for its client (cpython 91887).
    tasks = set()
    with socket.create_server((host, int(port))) as listener:
        while True:
            connection, address = await loop.sock_accept(listener)
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            task = asyncio.create_task(echo(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]), debug=True)
