"""S12, naive: a handler that fails, and nobody who looks.

A task keeps its exception until somebody asks for it. What goes wrong here:

- The list of tasks only grows, and nobody asks: the failure is silent. "Task
  exception was never retrieved" comes when the task is collected, and that is
  when the program ends.
- The exception holds the traceback, that holds the frame, and that holds the
  socket: it is never closed, and the client waits for ever.
  (test_ladder.py::test_the_naive_failure_is_silent_and_its_client_hangs)
- `boom` is looked for in what one receive returns: in two pieces it is not
  seen, and "boom" within another line is.
  (test_ladder.py::test_the_naive_fault_looks_at_chunks)
"""

import asyncio
import contextlib
import socket
import sys


async def echo(connection):
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, 1024):
        if b"boom" in data:
            raise RuntimeError("boom")
        await loop.sock_sendall(connection, data)


async def main(host="127.0.0.1", port=8000):
    loop = asyncio.get_running_loop()
    tasks = []
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            connection, address = await loop.sock_accept(listener)
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            tasks.append(asyncio.create_task(echo(connection)))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
