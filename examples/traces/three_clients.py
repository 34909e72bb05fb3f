"""Three clients of an echo server, on our own loop, or under another engine.

python examples/traces/three_clients.py selector three-clients.jsonl
"""

from __future__ import annotations

import sys

import anysock


async def echo(connection: anysock.Connection) -> None:
    async for chunk in connection:
        await connection.send_all(chunk)


async def says(address: str, after: float) -> None:
    await anysock.sleep(after)
    async with await anysock.connect(address) as connection:
        for word in (b"hello\n", b"and\n", b"goodbye\n"):
            await connection.send_all(word)
            await connection.recv_line()
            await anysock.sleep(0.004)


async def main() -> None:
    async with (
        anysock.Server(echo, bind="127.0.0.1:0") as server,
        anysock.task_group() as group,
    ):
        for number, name in enumerate(("Ann", "Bob", "Cleo")):
            group.spawn(says(server.addresses[0], 0.002 * number), name=name)


if __name__ == "__main__":
    engine, path = sys.argv[1:]
    with anysock.trace(path, title=f"Three clients, engine {engine}"):
        anysock.run(main, engine=engine)
