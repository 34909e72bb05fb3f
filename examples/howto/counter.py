"""A line protocol: ADD NAME NUMBER, GET NAME, QUIT. Answers are OK, a number, or ERR and why."""

import collections
import re
import threading

import anysock

IDLE_SECONDS = 60
MAX_LINE = 200
MAX_NAMES = 10_000  # without a bound, a client could fill our memory with names

# int() alone reads more than a protocol means: 1_000, ٣, any number of digits. And isdigit()
# accepts characters that int() does not read, such as ².
NUMBER = re.compile(r"-?[0-9]{1,18}")

numbers: collections.Counter[str] = collections.Counter()

# Under `threads` each client has a thread, and += is two steps: a read and a write. Without the
# lock, another client's += between them would be lost. It is never held across an await, so under
# the other engines no task waits for it.
lock = threading.Lock()


def answer(line: str) -> str:
    """What to say to one command. No connection in it: so it is tested without one."""
    match line.split():
        case ["ADD", name, number] if NUMBER.fullmatch(number):
            with lock:
                if name not in numbers and len(numbers) >= MAX_NAMES:
                    return "ERR too many names"
                numbers[name] += int(number)
            return "OK"
        case ["GET", name]:
            with lock:
                return str(numbers[name])
        case _:
            return "ERR use ADD NAME NUMBER, GET NAME or QUIT"


async def counter(connection: anysock.Connection) -> None:
    while True:
        async with anysock.move_on_after(IDLE_SECONDS) as scope:
            line = await connection.recv_line(MAX_LINE)
        if scope.fired:
            await connection.send_all(b"ERR you have been silent for too long\r\n")
            return
        # Not "replace", which makes one name of many.
        command = line.decode(errors="backslashreplace").strip()
        # A line without its end is the last, and may be cut off: ADD apples 1 of ADD apples 100.
        if not line.endswith(b"\n") or command == "QUIT":
            return
        await connection.send_all(answer(command).encode() + b"\r\n")


if __name__ == "__main__":
    anysock.serve(counter, bind="127.0.0.1:8000")
