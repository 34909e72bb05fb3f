"""A chat server: what one says, all others see."""

import anysock

# A slow client may be at most this many lines behind; then it must leave. Without a bound, it would
# fill our memory.
MAX_WAITING = 100
MAX_LINE = 40_000
MAX_NAME = 30

# No lock, though under `threads` each client has a thread: adding a client, removing one, and
# copying the list are one step each; and a queue has a lock of its own.
people: dict[anysock.Connection, anysock.Queue[bytes]] = {}


def readable(line: bytes) -> str:
    """What may be shown to others: a terminal would obey the control characters of a client."""
    text = line.decode(errors="replace").strip()
    return "".join(character if character.isprintable() else "?" for character in text)


def say_to_others(speaker: anysock.Connection, text: str) -> None:
    for connection, queue in list(people.items()):
        if connection is not speaker:
            try:
                queue.put_nowait(f"{text}\r\n".encode())
            except anysock.QueueFull:
                connection.abort()  # close() would wait for a peer that does not read


async def chat(connection: anysock.Connection) -> None:
    await connection.send_all(b"Your name? ")
    line = await connection.recv_line(MAX_LINE)
    if not line:
        return
    name = readable(line)[:MAX_NAME] or "somebody"
    queue = people[connection] = anysock.Queue(MAX_WAITING)
    queue.put_nowait(f"* hello {name}\r\n".encode())
    say_to_others(connection, f"* {name} is here")
    try:
        async with anysock.task_group() as group:
            writer = group.spawn(write(connection, queue))
            async for line in connection.lines(MAX_LINE):
                say_to_others(connection, f"{name}: {readable(line)}")
            writer.cancel()
    finally:
        del people[connection]
        say_to_others(connection, f"* {name} has left")


async def write(connection: anysock.Connection, queue: anysock.Queue[bytes]) -> None:
    async for text in queue:
        await connection.send_all(text)


if __name__ == "__main__":
    anysock.serve(chat, bind="127.0.0.1:8000")
