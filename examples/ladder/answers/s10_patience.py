"""S10, answered: so many seconds for each receive.

asyncio.timeout() cancels what is awaited in its block, and makes a TimeoutError
of the cancellation.
"""

import asyncio
import contextlib
import socket
import sys


async def echo(connection, seconds):
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(ConnectionError, TimeoutError):
        while True:
            async with asyncio.timeout(seconds):
                data = await loop.sock_recv(connection, 65536)
            if not data:
                return
            print(f"I got data: {data}!")
            async with asyncio.timeout(seconds):
                await loop.sock_sendall(connection, data)


async def main(host="127.0.0.1", port=8000, seconds=60):
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
            task = asyncio.create_task(echo(connection, float(seconds)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
