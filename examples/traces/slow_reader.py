"""A client that asks for much, and does not read it: its handler waits in `send_all`.

python examples/traces/slow_reader.py slow-reader.jsonl
"""

from __future__ import annotations

import sys

import anysock

ANSWER = bytes(64 * 1024)


async def handler(connection: anysock.Connection) -> None:
    async for _ in connection.lines():
        for _ in range(200):
            await connection.send_all(ANSWER)


async def slow(address: str) -> None:
    async with await anysock.connect(address) as connection:
        await connection.send_all(b"all of it, please\n")
        await anysock.sleep(0.3)  # it does something else
        await connection.recv_exactly(200 * len(ANSWER))


async def main() -> None:
    options = {"bind": "127.0.0.1:0", "socket_buffer": "64KiB"}
    async with anysock.Server(handler, anysock.ServeOptions(**options)) as server:
        await slow(server.addresses[0])


if __name__ == "__main__":
    with anysock.trace(sys.argv[1], title="A slow reader"):
        anysock.run(main)
