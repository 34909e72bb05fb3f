"""S10: the standard library's event loop, at its lowest level.

The same three steps as ever, each with an await before it: sock_accept,
sock_recv, sock_sendall. asyncio does what our loop of S9 did: it tries, and
when the system says "not yet", it pauses the task and asks its selector. The
sockets must not block. Of the listener it is ours to say so; those that
sock_accept() hands out are told by CPython, which its manual does not promise.

Each client is a task of its own. To await echo() in the loop of the listener
would serve one client after the other again: what runs side by side are tasks,
not coroutines.
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
        listener.setblocking(False)
        while True:
            connection, address = await loop.sock_accept(listener)
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            task = asyncio.create_task(echo(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
