"""A publish/subscribe server. A command is a line: SUBSCRIBE channel, UNSUBSCRIBE channel, or
PUBLISH channel text."""

import threading

import anysock

MAX_LINE = 8_000
MAX_CHANNELS = 1_000  # clients make them, and so they have a bound

# Under `threads` handlers run on threads of their own: what looks at the table and then changes it
# needs the lock. There is no await while it is held.
lock = threading.Lock()
channels: dict[str, anysock.Broadcast] = {}


async def pubsub(connection: anysock.Connection) -> None:
    async with anysock.Outbox(connection, max_items=1000) as outbox:
        try:
            async for line in connection.lines(MAX_LINE):
                answer = await command(outbox, line.decode(errors="replace").split(maxsplit=2))
                await outbox.send(f"{answer}\n".encode())
        finally:
            for name in list(channels):
                unsubscribe(outbox, name)


async def command(outbox: anysock.Outbox, words: list[str]) -> str:
    match words:
        case ["SUBSCRIBE", name]:
            return f"OK {name}" if subscribe(outbox, name) else "ERROR too many channels"
        case ["UNSUBSCRIBE", name]:
            unsubscribe(outbox, name)
            return f"OK {name}"
        case ["PUBLISH", name, text]:
            channel = channels.get(name)
            message = f"MESSAGE {name} {text.rstrip()}\n".encode()
            return f"OK {await channel.publish(message) if channel is not None else 0}"
    return "ERROR expected SUBSCRIBE, UNSUBSCRIBE or PUBLISH"


def subscribe(outbox: anysock.Outbox, name: str) -> bool:
    with lock:
        if name not in channels and len(channels) >= MAX_CHANNELS:
            return False
        channels.setdefault(name, anysock.Broadcast()).add(outbox)
        return True


def unsubscribe(outbox: anysock.Outbox, name: str) -> None:
    with lock:
        channel = channels.get(name)
        if channel is not None:
            channel.remove(outbox)
            if not len(channel):
                del channels[name]


if __name__ == "__main__":
    anysock.serve(pubsub, bind="127.0.0.1:8000")
