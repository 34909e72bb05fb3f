"""A small Redis: its protocol, RESP2, without a socket in sight, and a store.

https://redis.io/docs/latest/develop/reference/protocol-spec/

All servers of the comparison share it; they differ in how they receive and send alone. Under
threads, two INCR of one key at a time may count as one.
"""

from __future__ import annotations

from collections.abc import Callable

OK = b"+OK\r\n"
NOTHING = b"$-1\r\n"

#: What was SET, by its key.
Store = dict[bytes, bytes]


class Session:
    """One client's conversation: bytes of commands in, bytes of answers out."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rest = b""

    def receive(self, data: bytes) -> bytes:
        """The answers to the commands that `data` completes; what is left waits for more."""
        if self._rest:
            data = self._rest + data
        answers: list[bytes] = []
        try:
            self._rest = self._answer_words(data, answers)
        except ValueError:
            self._rest = b""
            answers.append(b"-ERR Protocol error\r\n")
        return b"".join(answers)

    def _answer_words(self, data: bytes, answers: list[bytes]) -> bytes:
        """Answer the commands of `data`, cut at all CRLF at once, which takes half the time of one
        after the other; return what is left."""
        words = data.split(b"\r\n")
        at, last = 0, len(words) - 1
        while at < last:
            count = _count(words[at])
            end = at + 1 + 2 * count
            if end > last:
                break
            arguments = words[at + 2 : end : 2]
            for length, word in zip(words[at + 1 : end : 2], arguments, strict=True):
                if len(word) >= len(_LENGTHS) or length != _LENGTHS[len(word)]:
                    # It is long, or has a CRLF within, or the client makes a mistake.
                    return self._answer_one_by_one(b"\r\n".join(words[at:]), answers)
            answers.append(self._answer(arguments))
            at = end
        rest = b"\r\n".join(words[at:])
        # Of a long word that has not come yet, there may be a beginning that looks like more words.
        return self._answer_one_by_one(rest, answers) if at < last else rest

    def _answer_one_by_one(self, data: bytes, answers: list[bytes]) -> bytes:
        at = 0
        while (command := _next_command(data, at)) is not None:
            at, arguments = command
            answers.append(self._answer(arguments))
        return data[at:]

    def _answer(self, arguments: list[bytes]) -> bytes:
        command, fewest = _COMMANDS.get(arguments[0].upper(), _UNKNOWN)
        if len(arguments) <= fewest:
            return b"-ERR wrong number of arguments\r\n"
        return command(self._store, arguments)


def _next_command(data: bytes, at: int) -> tuple[int, list[bytes]] | None:
    """Where the command that begins at `at` ends, and its words; None: it is not complete. Raises
    ValueError for what is no command."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    words, count = [], _count(data[at:end])
    at = end + 2
    for _ in range(count):
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        if data[at : at + 1] != b"$":
            raise ValueError(data[at:end])
        begin = end + 2
        end = begin + int(data[at + 1 : end])
        at = end + 2
        if at > len(data):
            return None
        words.append(data[begin:end])
    return at, words


def _count(head: bytes) -> int:
    """How many words a command has that begins with the line `head`."""
    if head[:1] != b"*" or (count := int(head[1:])) < 1:
        raise ValueError(head)
    return count


# What is written before a word, by its length.
_LENGTHS = [b"$%d" % length for length in range(256)]


def _unknown(_store: Store, _arguments: list[bytes]) -> bytes:
    return b"-ERR unknown command\r\n"


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _ping(_store: Store, arguments: list[bytes]) -> bytes:
    return _bulk(arguments[1]) if len(arguments) > 1 else b"+PONG\r\n"


def _get(store: Store, arguments: list[bytes]) -> bytes:
    value = store.get(arguments[1])
    return NOTHING if value is None else _bulk(value)


def _set(store: Store, arguments: list[bytes]) -> bytes:
    store[arguments[1]] = arguments[2]
    return OK


def _incr(store: Store, arguments: list[bytes]) -> bytes:
    try:
        value = int(store.get(arguments[1], b"0")) + 1
    except ValueError:
        return b"-ERR value is not an integer or out of range\r\n"
    store[arguments[1]] = b"%d" % value
    return b":%d\r\n" % value


def _del(store: Store, arguments: list[bytes]) -> bytes:
    return b":%d\r\n" % sum(store.pop(key, None) is not None for key in arguments[1:])


def _config(_store: Store, arguments: list[bytes]) -> bytes:
    """redis-benchmark asks whether the server writes to disk: it does not."""
    return b"*2\r\n%b$0\r\n\r\n" % _bulk(arguments[-1])


_UNKNOWN = (_unknown, 0)

# By name: what it does, and how many arguments it takes at least.
_COMMANDS: dict[bytes, tuple[Callable[[Store, list[bytes]], bytes], int]] = {
    b"PING": (_ping, 0),
    b"GET": (_get, 1),
    b"SET": (_set, 2),
    b"INCR": (_incr, 1),
    b"DEL": (_del, 1),
    b"CONFIG": (_config, 2),
}
