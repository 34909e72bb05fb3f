"""A chat server: what one says, all others see."""

import anysock

# A client that does not read fast enough has so many lines to catch up; then it must leave. Without
# a bound, it would fill our memory.
MOST_WAITING = 100

people: dict[anysock.Queue[bytes], str] = {}


def say_to_all(text: bytes, but: anysock.Queue[bytes]) -> None:
    for queue in list(people):
        if queue is not but:
            try:
                queue.put_nowait(text)
            except anysock.QueueFull:
                queue.close()


async def chat(connection: anysock.Connection) -> None:
    await connection.send_all(b"Your name? ")
    name = (await connection.recv_line()).strip().decode(errors="replace") or "somebody"
    mine: anysock.Queue[bytes] = anysock.Queue(max_items=MOST_WAITING)
    people[mine] = name
    say_to_all(f"* {name} is here\r\n".encode(), but=mine)
    try:
        async with anysock.task_group() as group:
            writer = group.spawn(write(connection, mine))
            async for line in connection.lines():
                say_to_all(f"{name}: {line.decode(errors='replace').strip()}\r\n".encode(), mine)
            writer.cancel()
    finally:
        del people[mine]
        say_to_all(f"* {name} has left\r\n".encode(), but=mine)


async def write(connection: anysock.Connection, queue: anysock.Queue[bytes]) -> None:
    async for text in queue:
        await connection.send_all(text)
    await connection.send_all(b"* You are too slow, good-bye\r\n")
    connection.abort()


if __name__ == "__main__":
    anysock.serve(chat, bind="127.0.0.1:8000")
