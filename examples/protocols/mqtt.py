"""An MQTT 3.1.1 broker: wildcards, QoS 0 and 1, retained messages, wills, keep-alive.

    python mqtt.py -b 127.0.0.1:1883
    mosquitto_sub -t 'weather/#' & mosquitto_pub -t weather/berlin -m rain -q 1 -r

All sessions are clean, and everybody may come in. A subscription for QoS 2 is granted QoS 1; who
publishes with QoS 2 is disconnected. A client that does not read fills its outbox; then it misses
messages of QoS 0, and is disconnected for one of QoS 1. In brackets: sections of the standard.
"""

import argparse
import dataclasses
import itertools
import re
from collections.abc import Iterator

import anysock

CONNECT_SECONDS = 10
MAX_PACKET = 1 << 20
MAX_RETAINED = 10_000  # messages

# The first byte of a packet: what it is, and flags, which are fixed but for PUBLISH.
CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 0xA2, 0xB0, 0xC0, 0xD0, 0xE0
ACCEPTED, BAD_VERSION, BAD_NAME = 0, 1, 2
TOPIC = re.compile(r"[^+#\0]+")
# [4.7.1]: a level may be +, for any; the last one may be #, for all that follow.
FILTER = re.compile(r"(?!$)(?:(?:\+|[^+#/\0]*)/)*(?:#|\+|[^+#/\0]*)")


@dataclasses.dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    qos: int
    retain: bool

    def __post_init__(self) -> None:
        if not TOPIC.fullmatch(self.topic) or self.qos > 1:
            raise ValueError(f"can't publish {self.topic!r} with QoS {self.qos}")


def take(fields: bytearray, size: int) -> bytes:
    """Take the next field of a packet, of `size` bytes [1.5]."""
    field = bytes(fields[:size])
    del fields[:size]
    if len(field) < size:
        raise ValueError("a packet ends within a field")
    return field


def take_number(fields: bytearray, size: int = 2) -> int:
    return int.from_bytes(take(fields, size))


def take_text(fields: bytearray) -> str:
    return take(fields, take_number(fields)).decode()


def packet(head: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    length, left = [head], len(body)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([*length, left]) + body


def compiled(text: str) -> re.Pattern[str]:
    """What matches the topics that a filter is for. Those with a $ are the broker's own [4.7.2]."""
    first = r"(?!\$)" if text[0] in "+#" else ""
    levels = re.escape(text).replace(r"\+", "[^/]*").replace(r"/\#", "(/.*)?")
    return re.compile(first + levels.replace(r"\#", ".*"), re.DOTALL)


class Client:
    def __init__(self, connection: anysock.Connection) -> None:
        self.connection = connection
        self.name: str | None = None  # that of its CONNECT
        self.patience: float | None = CONNECT_SECONDS
        self.will: Message | None = None
        self.leaves = False
        self.outbox = anysock.Outbox(connection, when_full="drop_newest")
        self.filters: dict[str, tuple[re.Pattern[str], int]] = {}  # and the QoS that was granted
        self.numbers = itertools.cycle(range(1, 65_536))

    def answer(self, head: int, fields: bytearray) -> Iterator[bytes]:
        """Do what a packet asks for; what is to be sent for it. Raises ValueError for what breaks
        the protocol: the client is disconnected then [4.8]."""
        if (head == CONNECT) != (self.name is None):
            raise ValueError("CONNECT comes first, and once")
        if head == CONNECT:
            yield packet(CONNACK, bytes([0, self.connect(fields)]))
        elif head & 0xF0 == PUBLISH:
            qos, topic = head >> 1 & 3, take_text(fields)
            number = take(fields, 2) if qos else b""
            publish(Message(topic, bytes(fields), qos, retain=bool(head & 1)))
            if qos:
                yield packet(PUBACK, number)
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
            self.will, self.leaves = None, True
        elif head != PUBACK:
            raise ValueError(f"a packet begins with {head:#x}")

    def connect(self, fields: bytearray) -> int:
        self.leaves = True  # unless all is well
        protocol, version, flags = take_text(fields), take_number(fields, 1), take_number(fields, 1)
        if protocol != "MQTT" or flags & 1:
            raise ValueError("this is not MQTT")
        if version != 4:
            return BAD_VERSION
        keep_alive, name, will = take_number(fields), take_text(fields), None
        if flags & 0x04:
            topic, payload = take_text(fields), take(fields, take_number(fields))
            will = Message(topic, payload, flags >> 3 & 3, retain=bool(flags & 0x20))
        if not name and not flags & 2:
            return BAD_NAME  # it wants a session, and there is nothing to find that by
        for other in list(clients):
            if other.name == name != "":
                other.connection.abort()
        self.name, self.will, self.leaves = name, will, False
        self.patience = keep_alive * 1.5 or None  # [3.1.2.10]
        clients.add(self)
        return ACCEPTED

    def subscribe(self, fields: bytearray) -> Iterator[bytes]:
        number, granted = take(fields, 2), list[int]()
        while fields or not granted:
            text, qos = take_text(fields), take_number(fields, 1)
            if not FILTER.fullmatch(text) or qos > 2:
                raise ValueError(f"can't subscribe to {text!r} with QoS {qos}")
            granted.append(min(qos, 1))
            self.filters[text] = topics, _ = compiled(text), granted[-1]
            for message in list(retained.values()):
                if topics.fullmatch(message.topic):
                    yield self.packed(message, granted[-1], retain=True)
        yield packet(SUBACK, number, bytes(granted))

    def packed(self, message: Message, granted: int, *, retain: bool) -> bytes:
        topic, qos = message.topic.encode(), min(granted, message.qos)
        number = next(self.numbers).to_bytes(2) if qos else b""
        head = PUBLISH | qos << 1 | retain
        return packet(head, len(topic).to_bytes(2), topic, number, message.payload)

    def offer(self, message: Message) -> None:
        """Send it soon, and once, though several filters may match [3.3.5]."""
        granted = [q for topics, q in [*self.filters.values()] if topics.fullmatch(message.topic)]
        if granted:
            sent = self.outbox.offer(self.packed(message, max(granted), retain=False))
            if not sent and message.qos and max(granted):
                self.connection.abort()  # none of these may be missing


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
        async with client.outbox:
            while not client.leaves:
                async with anysock.timeout(client.patience):
                    [head] = await connection.recv_exactly(1)
                    fields = await connection.recv_frame("varint", max_bytes=MAX_PACKET)
                for answer in client.answer(head, bytearray(fields)):
                    await client.outbox.send(answer)  # waits while the client does not read
    except (ValueError, TimeoutError) as error:
        connection.log.info("disconnected: %s", error)
    finally:
        clients.discard(client)
        if client.will is not None:
            publish(client.will)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:1883")
    parser.add_argument("-e", "--engine", default="selector")
    anysock.serve(mqtt, **vars(parser.parse_args()))
