"""asyncio: sock_accept, sock_recv and sock_sendall, as a hand-written server uses them."""

import asyncio
import socket


async def echo(loop, client):
    with client:
        try:
            while data := await loop.sock_recv(client, 65536):
                await loop.sock_sendall(client, data)
        except ConnectionError:
            pass


async def main():
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    tasks = set()
    while True:
        client, _ = await loop.sock_accept(listener)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo(loop, client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
