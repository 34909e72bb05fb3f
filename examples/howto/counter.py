"""A line protocol: ADD NAME NUMBER, GET NAME, QUIT. Answers are OK, a number, or ERR and why."""

import collections

import anysock

IDLE_SECONDS = 60

numbers: collections.Counter[str] = collections.Counter()


def answer(line: str) -> str:
    """What to say to one command. No connection in it: so it is tested without one."""
    match line.split():
        case ["ADD", name, number] if number.lstrip("-").isdigit():
            numbers[name] += int(number)
            return "OK"
        case ["GET", name]:
            return str(numbers[name])
        case _:
            return "ERR use ADD NAME NUMBER, GET NAME or QUIT"


async def counter(connection: anysock.Connection) -> None:
    while True:
        async with anysock.move_on_after(IDLE_SECONDS) as scope:
            line = await connection.recv_line()
        if scope.fired:
            await connection.send_all(b"ERR you have been silent for too long\r\n")
            return
        command = line.decode(errors="replace").strip()
        if not line or command == "QUIT":
            return
        await connection.send_all(answer(command).encode() + b"\r\n")


if __name__ == "__main__":
    anysock.serve(counter, bind="127.0.0.1:8000")
