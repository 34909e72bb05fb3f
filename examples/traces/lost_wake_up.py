"""A lost wake-up: of two who wait for letters, one waits for ever.

    python examples/traces/lost_wake_up.py lost-wake-up.jsonl

Each reader of the mailbox hangs up a bell of its own, and takes the other's away: whoever came
first waits for a bell that nobody rings. (`anysock.Queue` is what they should have used.)
"""

from __future__ import annotations

import sys

import anysock


class Mailbox:
    def __init__(self) -> None:
        self.letters: list[str] = []
        self.bell = anysock.Event()

    async def get(self) -> str:
        while not self.letters:
            self.bell = anysock.Event()
            await self.bell.wait()
        return self.letters.pop()

    def put(self, letter: str) -> None:
        self.letters.append(letter)
        self.bell.set()


async def reader(mailbox: Mailbox) -> None:
    await mailbox.get()


async def main() -> None:
    mailbox = Mailbox()
    async with anysock.move_on_after(0.5), anysock.task_group() as group:
        group.spawn(reader(mailbox), name="first reader")
        group.spawn(reader(mailbox), name="second reader")
        for letter in ("one", "two"):
            await anysock.sleep(0.1)
            mailbox.put(letter)


if __name__ == "__main__":
    with anysock.trace(sys.argv[1], title="A lost wake-up"):
        anysock.run(main)
