"""A TCP proxy: each client is connected to another server, and bytes go both ways."""

import os

import anysock

TARGET = os.environ.get("PROXY_TARGET", "127.0.0.1:8001")
CONNECT_SECONDS = 5


async def copy(source: anysock.Connection, target: anysock.Connection) -> None:
    """One direction. Its end is handed on; the other direction may still go on (half-close)."""
    try:
        async for data in source:
            await target.send_all(
                data
            )  # waits while the target does not read: so we do not, either
        await target.send_eof()
    except OSError:
        # A reset is handed on as one: half an answer must not look like a whole one. It also wakes
        # the other direction, which would wait for its own peer under `threads`.
        target.abort()
        raise


async def proxy(client: anysock.Connection) -> None:
    async with anysock.timeout(CONNECT_SECONDS):
        server = await anysock.connect(TARGET)
    async with server, anysock.task_group() as group:
        group.spawn(copy(client, server))
        group.spawn(copy(server, client))


if __name__ == "__main__":
    anysock.serve(proxy, bind="127.0.0.1:8000")
