"""The clients of a plan: each does what its script says, under whatever engine it runs."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from anysock.errors import EndOfStream, StreamClosed
from anysock.sim.oracles.witness import Witness
from anysock.sim.plan import Client
from anysock.streams.connection import Connection
from anysock.tasks.groups import task_group
from anysock.tasks.runtime import sleep

if TYPE_CHECKING:
    import ssl

#: Seconds for which a client stays that does not read, if the server does not end it before.
STAY = 8.0

# How little a slow reader takes at a time, at least, in how many pauses it has read all of it at
# most, and how long one is.
_SIP, _SIPS, _PAUSE = 50, 100, 0.05

#: A user's own client: called with its connection, and with a source of chance of its own.
Conversation: TypeAlias = Callable[[Connection, random.Random], Awaitable[object]]

# Bytes that look random: those that are late, lost or another client's are told apart.
_BLOCK = random.Random("anysock").randbytes(1 << 16)
_TEXT = bytes(33 + each % 94 for each in _BLOCK)


class Form(Protocol):
    """What clients send, and what they are to be answered."""

    #: Whether that is known.
    known: bool

    def message(self, number: int, sent: int, size: int) -> bytes:
        """The next message of client `number`, which has sent so many bytes before."""
        ...

    def answers(self, stream: bytes) -> bytes:
        """All that comes back for all that was sent, and for the end of it."""
        ...

    def at_once(self, stream: bytes) -> bytes:
        """What is due of it while there may be more to come."""
        ...


class Echo:
    """All bytes come back."""

    known = True

    def message(self, number: int, sent: int, size: int) -> bytes:
        return _cut(_BLOCK, number, sent, size)

    def answers(self, stream: bytes) -> bytes:
        return stream

    at_once = answers


class Lines:
    """Each line comes back, behind a prefix; a rest that is none, as it is. Some lines end with
    CRLF."""

    known = True

    def __init__(self, prefix: bytes = b"") -> None:
        self._prefix = prefix

    def message(self, number: int, sent: int, size: int) -> bytes:
        end = b"\r\n" if size > 1 and (number + sent) % 3 == 0 else b"\n"
        return _cut(_TEXT, number, sent, size - len(end)) + end

    def answers(self, stream: bytes) -> bytes:
        if not self._prefix:
            return stream
        *lines, rest = stream.split(b"\n")
        return b"".join(self._prefix + line + b"\n" for line in lines) + rest

    def at_once(self, stream: bytes) -> bytes:
        return self.answers(stream[: stream.rfind(b"\n") + 1])


class Unknown(Lines):
    """Lines, and nobody knows what they are answered."""

    known = False

    def at_once(self, stream: bytes) -> bytes:
        return b""


def _cut(block: bytes, number: int, sent: int, size: int) -> bytes:
    start = (number * 7919 + sent) % (len(block) // 2)
    found = block[start : start + size]
    return found if len(found) == size else (found + block * (size // len(block) + 1))[:size]


async def play(
    client: Client,
    witness: Witness,
    address: str,
    form: Form,
    own: Callable[[Connection], Awaitable[object]] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Do what the script of `client` says; or, with `own`, what that does with its connection.
    `tls` is for an address that begins with tls."""
    record = witness.record
    record.awaits = own is None and client.reading == "at once"
    record.keeps_reading = record.awaits and not (
        client.turns and any(message.pause for message in client.messages)
    )
    if client.starts:
        await sleep(client.starts)
    if not await witness.connect(address, tls):
        return
    try:
        if own is not None:
            # What its network or its server may do to any client.
            with contextlib.suppress(OSError, EndOfStream):
                await own(witness.connection)
        elif client.turns:
            await _take_turns(client, witness, form)
        else:
            await _send_and_read(client, witness, form)
    finally:
        await witness.close()


async def _take_turns(client: Client, witness: Witness, form: Form) -> None:
    """Send each message when the one before is answered."""
    record, due = witness.record, 0
    for message in client.messages:
        if message.pause:
            await sleep(message.pause)
        data = form.message(client.number, len(record.sent), message.size)
        if not await witness.send(data):
            return
        due += len(form.at_once(data))
        while len(record.received) < due:
            if not await witness.recv():
                return
    if client.ends == "reset":
        await witness.reset()
    elif client.ends != "close":
        if client.ends == "half-close":
            await witness.end()
        await witness.read_all()


async def _send_and_read(client: Client, witness: Witness, form: Form) -> None:
    """Send, and read beside it."""
    async with task_group() as group:
        reads = None
        if client.reading != "never":
            reads = group.spawn(_read(client, witness), name="reads")
        for message in client.messages:
            if message.pause:
                await sleep(message.pause)
            data = form.message(client.number, len(witness.record.sent), message.size)
            if not await witness.send(data):
                break
        if client.ends == "half-close":
            await witness.end()
        elif client.ends != "stay" and reads is not None:
            reads.cancel()
        if client.ends == "reset":
            await witness.reset()
        elif client.ends != "close" and reads is None:
            await sleep(STAY)


async def _read(client: Client, witness: Witness) -> None:
    sip = max(_SIP, sum(message.size for message in client.messages) // _SIPS)
    # Who sends may reset the connection meanwhile, and close it.
    with contextlib.suppress(StreamClosed):
        if client.reading == "at once":
            await witness.read_all()
        else:
            while await witness.recv(sip):
                await sleep(_PAUSE)
