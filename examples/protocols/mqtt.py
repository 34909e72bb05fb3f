"""An MQTT 3.1.1 broker: wildcards, QoS 0 and 1, retained messages, wills, keep-alive.

    python mqtt.py -b 127.0.0.1:1883
    mosquitto_sub -t 'weather/#' & mosquitto_pub -t weather/berlin -m rain -q 1 -r

All sessions are clean. A subscription for QoS 2 is granted QoS 1; who publishes with QoS 2 is
disconnected. A client that does not read fills its outbox; then it misses messages of QoS 0, and is
disconnected for one of QoS 1. Numbers in brackets are sections of the OASIS standard.
"""

import argparse
import itertools
import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

import anysock

CONNECT_SECONDS = 10
MAX_PACKET = 1 << 20
MAX_OUTBOX = 1000  # packets that wait for a client
MAX_RETAINED = 10_000  # messages

# The first byte of a packet: what it is, and flags, which are fixed but for PUBLISH.
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 0xA2, 0xB0, 0xC0, 0xD0, 0xE0
ACCEPTED, BAD_VERSION, BAD_NAME, NOT_GRANTED = 0, 1, 2, 0x80
# [4.7.1]: a level may be +, for any; the last one may be #, for all that follow.
FILTER = re.compile(r"(?:(?:\+|[^+#/]*)/)*(?:#|\+|[^+#/]*)")


class ProtocolError(Exception):
    """The client has broken the protocol: it is disconnected [4.8]."""


class Message(NamedTuple):
    topic: str
    payload: bytes
    qos: int
    retain: bool

    def check(self) -> None:
        if not self.topic or {"+", "#"} & {*self.topic} or self.qos > 1:
            raise ProtocolError(f"can't publish {self.topic!r} with QoS {self.qos}")


def take(fields: bytearray, size: int) -> bytes:
    """Take the next field of a packet, of `size` bytes [1.5]."""
    if size > len(fields):
        raise ProtocolError("a packet ends within a field")
    field = bytes(fields[:size])
    del fields[:size]
    return field


def take_number(fields: bytearray, size: int = 2) -> int:
    return int.from_bytes(take(fields, size))


def take_text(fields: bytearray) -> str:
    text = take(fields, take_number(fields)).decode()
    if "\0" in text:
        raise ProtocolError("a text has a NUL")
    return text


def packet(head: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    length, left = [head], len(body)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([*length, left]) + body


def compiled(pattern: str) -> re.Pattern[str]:
    """What matches the topics that a filter is for. Those with a $ are the broker's own [4.7.2]."""
    first = r"(?!\$)" if pattern[0] in "+#" else ""
    levels = re.escape(pattern).replace(r"\+", "[^/]*").replace(r"/\#", "(/.*)?")
    return re.compile(first + levels.replace(r"\#", ".*"), re.DOTALL)


class Client:
    def __init__(self, connection: anysock.Connection) -> None:
        self.connection = connection
        self.name: str | None = None  # that of its CONNECT
        self.patience: float | None = CONNECT_SECONDS
        self.will: Message | None = None
        self.leaves = False
        self.outbox = anysock.Queue[bytes](MAX_OUTBOX)
        self.filters: dict[str, tuple[re.Pattern[str], int]] = {}  # and the QoS that was granted
        self.numbers = itertools.cycle(range(1, 65_536))

    def answer(self, head: int, fields: bytearray) -> Iterator[bytes]:
        """Do what a packet says; what is to be sent for it."""
        if (head == CONNECT) != (self.name is None):
            raise ProtocolError("CONNECT comes first, and once")
        if head == CONNECT:
            yield packet(CONNACK, bytes([0, self.connect(fields)]))
        elif head & 0xF0 == PUBLISH:
            qos, topic = head >> 1 & 3, take_text(fields)
            number = take(fields, 2) if qos else b""
            message = Message(topic, bytes(fields), qos, retain=bool(head & 1))
            message.check()
            publish(message)
            if qos:
                yield packet(PUBACK, number)
        elif head == PUBACK:
            take_number(fields)
        elif head == SUBSCRIBE:
            yield from self.subscribe(fields)
        elif head == UNSUBSCRIBE:
            number = take(fields, 2)
            while fields:
                self.filters.pop(take_text(fields), None)
            yield packet(UNSUBACK, number)
        elif head == PINGREQ:
            yield packet(PINGRESP)
        elif head == DISCONNECT:
            self.will = None
            self.leaves = True
        else:
            raise ProtocolError(f"a packet begins with {head:#x}")

    def connect(self, fields: bytearray) -> int:
        """[3.1]"""
        self.leaves = True  # unless all is well
        if take_text(fields) != "MQTT":
            raise ProtocolError("this is not MQTT")
        if take_number(fields, 1) != 4:
            return BAD_VERSION
        flags, keep_alive = take_number(fields, 1), take_number(fields)
        self.name, will = take_text(fields), None
        if flags & 0x04:
            topic, payload = take_text(fields), take(fields, take_number(fields))
            will = Message(topic, payload, flags >> 3 & 3, retain=bool(flags & 0x20))
            will.check()
        for flag in (0x80, 0x40):  # user and password: everybody may come in
            if flags & flag:
                take(fields, take_number(fields))
        if fields or flags & 1:
            raise ProtocolError("CONNECT has more than there is")
        if not flags & 2 and not self.name:
            return BAD_NAME  # a session, and nothing to find it by
        for other in list(clients):
            if other.name == self.name != "":
                other.connection.abort()
        self.leaves, self.will = False, will
        self.patience = keep_alive * 1.5 or None  # [3.1.2.10]
        clients.add(self)
        return ACCEPTED

    def subscribe(self, fields: bytearray) -> Iterator[bytes]:
        number, codes, late = take(fields, 2), list[int](), list[bytes]()
        while fields or not codes:
            text, qos = take_text(fields), min(take_number(fields, 1), 1)
            if not text or not FILTER.fullmatch(text):
                codes.append(NOT_GRANTED)
                continue
            codes.append(qos)
            self.filters[text] = pattern, _ = compiled(text), qos
            kept = [each for each in list(retained.values()) if pattern.fullmatch(each.topic)]
            late += [self.packed(each, qos, retain=True) for each in kept]
        yield packet(SUBACK, number, bytes(codes))
        yield from late

    def packed(self, message: Message, granted: int, *, retain: bool) -> bytes:
        topic, qos = message.topic.encode(), min(granted, message.qos)
        number = next(self.numbers).to_bytes(2) if qos else b""
        head = PUBLISH | qos << 1 | retain
        return packet(head, len(topic).to_bytes(2), topic, number, message.payload)

    def offer(self, message: Message) -> None:
        """Send it soon, and once, if any of the filters matches [3.3.5]."""
        filters = list(self.filters.values())
        granted = [qos for pattern, qos in filters if pattern.fullmatch(message.topic)]
        if granted:
            try:
                self.outbox.put_nowait(self.packed(message, max(granted), retain=False))
            except anysock.QueueClosed:
                pass  # it is just leaving
            except anysock.QueueFull:
                if message.qos and max(granted):
                    self.connection.abort()

    async def write(self) -> None:
        async for first in self.outbox:
            more = [self.outbox.get_nowait() for _ in range(min(len(self.outbox), 100))]
            await self.connection.send_all([first, *more])

    async def converse(self) -> None:
        while not self.leaves:
            async with anysock.timeout(self.patience):
                [head] = await self.connection.recv_exactly(1)
                fields = await self.connection.recv_frame("varint", max_bytes=MAX_PACKET)
            for answer in self.answer(head, bytearray(fields)):
                await self.outbox.put(answer)  # waits while it does not read


clients: set[Client] = set()
retained: dict[str, Message] = {}


def publish(message: Message) -> None:
    if message.retain:
        retained.pop(message.topic, None)
        if message.payload and len(retained) < MAX_RETAINED:
            retained[message.topic] = message
    for client in list(clients):
        client.offer(message)


async def mqtt(connection: anysock.Connection) -> None:
    client = Client(connection)
    try:
        async with anysock.task_group() as group:
            group.spawn(client.write())
            await client.converse()
            client.outbox.close()  # what is in it still goes
    except* (ProtocolError, UnicodeDecodeError, TimeoutError) as errors:
        logging.getLogger("anysock").info("disconnected: %s", errors.exceptions[0])
    finally:
        clients.discard(client)
        if client.will is not None:
            publish(client.will)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:1883")
    parser.add_argument("-e", "--engine", default="selector")
    anysock.serve(mqtt, **vars(parser.parse_args()))
