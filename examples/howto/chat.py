"""A chat server: what one says, all others see."""

import anysock

# A client may be at most this many lines behind; then it must leave. Without a bound, one that does
# not read would fill our memory.
MAX_WAITING = 100
MAX_LINE = 40_000
MAX_NAME = 30

room = anysock.Broadcast(max_items=MAX_WAITING, max_bytes=4_000_000, when_full="disconnect")


def readable(line: bytes) -> str:
    """What may be shown to others: a terminal would obey the control characters of a client."""
    text = line.decode(errors="replace").strip()
    return "".join(character if character.isprintable() else "?" for character in text)


async def chat(connection: anysock.Connection) -> None:
    await connection.send_all(b"Your name? ")
    line = await connection.recv_line(MAX_LINE)
    if not line:
        return
    name = readable(line)[:MAX_NAME] or "somebody"

    async with room.join(connection) as outbox:

        async def say(text: str) -> None:
            await room.publish(f"{text}\r\n".encode(), besides=outbox)

        await outbox.send(f"* hello {name}\r\n".encode())
        await say(f"* {name} is here")
        try:
            async for line in connection.lines(MAX_LINE):
                await say(f"{name}: {readable(line)}")
        finally:
            await say(f"* {name} has left")


if __name__ == "__main__":
    anysock.serve(chat, bind="127.0.0.1:8000")
