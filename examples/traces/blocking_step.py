"""A handler that blocks the loop: while one client's sum is made, the other gets no answer.

python examples/traces/blocking_step.py blocking-step.jsonl
"""

from __future__ import annotations

import sys
import time

import anysock


async def handler(connection: anysock.Connection) -> None:
    async for line in connection.lines():
        if line.strip() == b"sum":
            time.sleep(0.2)  # a computation, or a call to a driver that blocks
        await connection.send_all(line)


async def quick(address: str) -> None:
    async with await anysock.connect(address) as connection:
        for _ in range(20):
            await connection.send_all(b"hello\n")
            await connection.recv_line()
            await anysock.sleep(0.02)


async def costly(address: str) -> None:
    async with await anysock.connect(address) as connection:
        await anysock.sleep(0.1)
        await connection.send_all(b"sum\n")
        await connection.recv_line()


async def main() -> None:
    async with (
        anysock.Server(handler, bind="127.0.0.1:0") as server,
        anysock.task_group() as group,
    ):
        group.spawn(quick(server.addresses[0]), name="quick client")
        group.spawn(costly(server.addresses[0]), name="costly client")


if __name__ == "__main__":
    with anysock.trace(sys.argv[1], title="A blocking step"):
        anysock.run(main)
