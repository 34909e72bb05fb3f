"""S11, answered: two ports.

Each has a listener, and each listener a task. All clients are tasks of one
group.
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


async def main(host="127.0.0.1", port=8000, other=8001):
    async with asyncio.TaskGroup() as group:
        for each in (port, other):
            found = socket.getaddrinfo(
                host,
                int(each),
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
            for family, _, _, _, address in found:
                group.create_task(listen(family, address, group))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
