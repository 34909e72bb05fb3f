"""S11: the listener is a coroutine as well.

One is enough for any number of clients: accept() only takes them from the
queue, and gives each a task. Written as a coroutine, the program may have
several: here one for each address that the host stands for. `localhost` is
127.0.0.1, and ::1 where there is IPv6.

A TaskGroup holds the tasks, and ends them all when the program is stopped.
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


async def listen(family, address, clients):
    loop = asyncio.get_running_loop()
    with socket.create_server(address[:2], family=family) as listener:
        listener.setblocking(False)
        while True:
            connection, peer = await loop.sock_accept(listener)
            print(f"I got a connection from {peer}!")
            connection.setblocking(False)
            clients.create_task(echo(connection))


async def main(host="127.0.0.1", port=8000):
    found = socket.getaddrinfo(
        host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    async with asyncio.TaskGroup() as group:
        for family, _, _, _, address in found:
            group.create_task(listen(family, address, group))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
