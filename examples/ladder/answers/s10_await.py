"""S10, answered: await in the place of a task.

To await a coroutine is to wait until it has ended. So the next client is
accepted when this one has left: it is the server of S4 again.
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
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            connection, address = await loop.sock_accept(listener)
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            await echo(connection)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
