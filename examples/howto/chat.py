"""A chat server: what one says, all others see."""

import anysock

# A client that does not read fast enough has so many lines to catch up; then it must leave. Without
# a bound, it would fill our memory.
MOST_WAITING = 100

people: dict[anysock.Connection, anysock.Queue[bytes]] = {}


def say_to_others(speaker: anysock.Connection, text: str) -> None:
    for connection, queue in list(people.items()):
        if connection is not speaker:
            try:
                queue.put_nowait(f"{text}\r\n".encode())
            except anysock.QueueFull:
                connection.abort()  # an orderly end would wait for somebody who does not read


async def chat(connection: anysock.Connection) -> None:
    await connection.send_all(b"Your name? ")
    name = (await connection.recv_line()).strip().decode(errors="replace") or "somebody"
    queue = people[connection] = anysock.Queue(MOST_WAITING)
    say_to_others(connection, f"* {name} is here")
    try:
        async with anysock.task_group() as group:
            writer = group.spawn(write(connection, queue))
            async for line in connection.lines():
                say_to_others(connection, f"{name}: {line.decode(errors='replace').strip()}")
            writer.cancel()
    finally:
        del people[connection]
        say_to_others(connection, f"* {name} has left")


async def write(connection: anysock.Connection, queue: anysock.Queue[bytes]) -> None:
    async for text in queue:
        await connection.send_all(text)


if __name__ == "__main__":
    anysock.serve(chat, bind="127.0.0.1:8000")
