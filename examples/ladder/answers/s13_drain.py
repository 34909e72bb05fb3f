"""S13, answered: clients may finish.

When it is stopped, nobody new is accepted, and who is there has so many seconds
to come to an end. Who is still there then is cancelled.
"""

import asyncio
import contextlib
import logging
import signal
import socket
import sys

MAX_LINE = 65536


class Clients:
    """The tasks of the clients that are there."""

    def __init__(self):
        self.tasks = set()

    def add(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)
        print(f"{len(self.tasks)} clients")

    def ended(self, task):
        self.tasks.discard(task)
        print(f"{len(self.tasks)} clients")
        if not task.cancelled() and (error := task.exception()):
            logging.error("a handler failed", exc_info=error)

    async def stop(self, seconds):
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=seconds)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def echo(connection):
    loop = asyncio.get_running_loop()
    begun = b""
    with connection, contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(connection, 65536):
            *lines, begun = (begun + data).split(b"\n")
            if any(line.strip() == b"boom" for line in lines):
                raise RuntimeError("boom")
            if len(begun) > MAX_LINE:
                raise ValueError(f"a line longer than {MAX_LINE} bytes")
            await loop.sock_sendall(connection, data)


async def listen(listener, clients):
    loop = asyncio.get_running_loop()
    while True:
        connection, address = await loop.sock_accept(listener)
        print(f"I got a connection from {address}!")
        connection.setblocking(False)
        clients.add(echo(connection))


async def main(host="127.0.0.1", port=8000, seconds=5):
    clients = Clients()
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        listening = asyncio.create_task(listen(listener, clients))
        await stopped.wait()
        listening.cancel()
    await clients.stop(float(seconds))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
