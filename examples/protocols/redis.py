"""A small Redis: strings, counters and expiry, in RESP2 or RESP3 as the client wishes.

    python examples/protocols/redis.py --bind 127.0.0.1:6379

The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""
# ruff: noqa: E701  (the table of commands is a table)

import argparse
import itertools
import math
import re
import sys
import threading
import time
from typing import TypeAlias

import anysock

MAX_MEMORY = 64 << 20  # bytes of keys and values
MAX_LINE, MAX_WORDS, MAX_COMMAND, MAX_ANSWERS = 64 << 10, 4096, 8 << 20, 256 << 10

# A str is a simple string, such as +OK; bytes are a bulk string.
Answer: TypeAlias = "int | str | bytes | Refused | list[Answer] | dict[bytes, Answer] | None"


class Refused(Exception):
    """Its text is the answer."""


def encode(answer: Answer, resp: int) -> bytes:
    if isinstance(answer, list | dict):
        items = list(itertools.chain(*answer.items())) if isinstance(answer, dict) else answer
        head = b"*%d\r\n" % len(items)
        if resp == 3 and isinstance(answer, dict):
            head = b"%%%d\r\n" % len(answer)
        return head + b"".join([encode(each, resp) for each in items])
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if answer is None:
        return b"_\r\n" if resp == 3 else b"$-1\r\n"
    kind = ":" if isinstance(answer, int) else "+" if isinstance(answer, str) else "-"
    return f"{kind}{answer}\r\n".encode()


def integer(text: bytes, least: int = -(2**63), most: int = 2**63 - 1) -> int:
    # int() alone would read 1_000, too.
    if not re.fullmatch(rb"0|-?[1-9][0-9]{0,18}", text) or not least <= int(text) <= most:
        raise Refused("ERR value is not an integer or out of range")
    return int(text)


class Store:
    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.deadlines: dict[bytes, float] = {}
        self.used = 0  # bytes
        # For `threads`. It is never held across an await: elsewhere, no task waits for it.
        self.lock = threading.Lock()

    def put(self, key: bytes, value: bytes) -> bytes:
        grows = len(value) - len(self.values[key]) if key in self.values else len(key) + len(value)
        if self.used + grows > MAX_MEMORY:
            raise Refused("OOM command not allowed when used memory > 'maxmemory'.")
        self.values[key] = value
        self.used += grows
        return value

    def delete(self, key: bytes) -> bool:
        self.deadlines.pop(key, None)
        value = self.values.pop(key, None)
        self.used -= 0 if value is None else len(key) + len(value)
        return value is not None

    def set(self, key: bytes, value: bytes, options: list[bytes]) -> Answer:
        deadline, words = math.inf, iter(options)
        for option in map(bytes.upper, words):
            if option in (b"EX", b"PX"):
                span = integer(next(words, b""), least=1)
                deadline = time.monotonic() + span / (1 if option == b"EX" else 1000)
            elif option not in (b"NX", b"XX"):
                raise Refused("ERR syntax error")
            elif (key in self.values) == (option == b"NX"):
                return None
        self.put(key, value)
        self.deadlines.pop(key, None)
        if deadline < math.inf:
            self.deadlines[key] = deadline
        return "OK"


class Client:
    def __init__(self, store: Store, connection: anysock.Connection) -> None:
        self.store, self.connection = store, connection
        self.resp = 2
        self.answers = bytearray()

    async def converse(self) -> None:
        try:
            while True:
                if command := await self.receive():
                    self.answers += encode(self.answer(command), self.resp)
                if len(self.answers) > MAX_ANSWERS:
                    await self.flush()
        except (Refused, anysock.MessageTooLong) as why:
            # That is not RESP. Where the next command begins nobody knows.
            self.answers += encode(Refused(f"ERR Protocol error: {why}"), self.resp)
            await self.flush()

    async def flush(self) -> None:
        answers, self.answers = bytes(self.answers), bytearray()
        await self.connection.send_all(answers)

    async def line(self, max_bytes: int) -> bytes:
        # Before it waits, what has been answered is sent: the answers to a batch at once.
        if b"\n" not in self.connection.peek(32):
            await self.flush()
        return await self.connection.recv_until(b"\n", max_bytes=max_bytes)

    async def receive(self) -> list[bytes]:
        """The words of the next command: an array of bulk strings, or a line."""
        line = await self.line(MAX_LINE)
        if not line.startswith(b"*"):
            return line.split()
        words, left = [], MAX_COMMAND
        for _ in range(integer(line[1:-2], 0, MAX_WORDS)):
            line = await self.line(32)
            size = integer(line[1:-2] if line.startswith(b"$") else b"", 0, left)
            if self.connection.buffered < size + 2:
                await self.flush()
            words.append((await self.connection.recv_exactly(size + 2))[:-2])
            left -= size
        return words

    def answer(self, command: list[bytes]) -> Answer:
        with self.store.lock:
            for word in command if self.store.deadlines else ():
                if self.store.deadlines.get(word, math.inf) <= time.monotonic():
                    self.store.delete(word)  # a key that has expired
            try:
                return self.execute([command[0].upper(), *command[1:]], self.store)
            except Refused as why:
                return why

    def execute(self, command: list[bytes], store: Store) -> Answer:
        values = store.values
        # fmt: off
        match command:
            case [b"APPEND", key, more]: return len(store.put(key, values.get(key, b"") + more))
            case [b"CLIENT", _, *_]: return "OK"
            case [b"COMMAND", *_]: return []
            case [b"CONFIG", _, name]: return {name: b""}
            case [b"DEL", _, *_]: return sum([store.delete(key) for key in command[1:]])
            case [b"ECHO", text]: return text
            case [b"EXISTS", _, *_]: return sum([key in values for key in command[1:]])
            case [b"EXPIRE", key, seconds]:
                if key in values: store.deadlines[key] = time.monotonic() + integer(seconds)
                return int(key in values)
            case [b"GET", key]: return values.get(key)
            case [b"HELLO", *version] if version in ([], [b"2"], [b"3"]):
                self.resp = int(version[0]) if version else self.resp
                return {b"server": b"redis", b"version": b"7.0.0", b"proto": self.resp}
            case [b"HELLO", *_]: raise Refused("NOPROTO unsupported protocol version")
            case [b"INCR", key]: return self.execute([b"INCRBY", key, b"1"], store)
            case [b"INCRBY", key, number]:
                new = b"%d" % (integer(values.get(key, b"0")) + integer(number))
                return integer(store.put(key, b"%d" % integer(new)))
            case [b"INFO", *_]: return b"redis_version:7.0.0\r\nkeys:%d\r\n" % len(values)
            case [b"MGET", *keys] if sum([len(values.get(key, b"")) for key in keys]) > MAX_COMMAND:
                raise Refused(f"ERR an answer has at most {MAX_COMMAND} bytes")
            case [b"MGET", _, *_]: return [values.get(key) for key in command[1:]]
            case [b"MSET", _, _, *_] if len(command) % 2:
                words = iter(command[1:])
                for key in words: store.set(key, next(words), [])
                return "OK"
            case [b"PING"]: return "PONG"
            case [b"PING", text]: return text
            case [b"SELECT", b"0"]: return "OK"
            case [b"SET", key, value, *options]: return store.set(key, value, options)
            case [b"TTL", key] if key in store.deadlines:
                return round(store.deadlines[key] - time.monotonic())
            case [b"TTL", key]: return -1 if key in values else -2
        # fmt: on
        called = command[0][:64].decode(errors="replace")
        raise Refused(f"ERR unknown command {called!a}, or wrong number of arguments for it")


store = Store()


async def handler(connection: anysock.Connection) -> None:
    await Client(store, connection).converse()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:6379")
    parser.add_argument("-e", "--engine", default="selector")
    sys.exit(anysock.serve(handler, **vars(parser.parse_args())) > 0)
