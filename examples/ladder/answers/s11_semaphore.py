"""S11, answered: no more than two clients at a time.

A place is taken before accept(), and not after: so the third client waits in
the queue of the system, and costs us nothing.
"""

import asyncio
import contextlib
import socket
import sys


async def echo(connection, places):
    loop = asyncio.get_running_loop()
    try:
        with connection, contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(connection, 65536):
                print(f"I got data: {data}!")
                await loop.sock_sendall(connection, data)
    finally:
        places.release()


async def listen(family, address, clients, places):
    loop = asyncio.get_running_loop()
    with socket.create_server(address[:2], family=family) as listener:
        listener.setblocking(False)
        while True:
            await places.acquire()
            connection, peer = await loop.sock_accept(listener)
            print(f"I got a connection from {peer}!")
            connection.setblocking(False)
            clients.create_task(echo(connection, places))


async def main(host="127.0.0.1", port=8000):
    found = socket.getaddrinfo(
        host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    places = asyncio.Semaphore(2)
    async with asyncio.TaskGroup() as group:
        for family, _, _, _, address in found:
            group.create_task(listen(family, address, group, places))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
