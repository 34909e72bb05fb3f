"""An MQTT 3.1.1 broker: publish and subscribe, with wildcards, QoS 0 and 1, retained messages, wills
and keep-alive.

    python mqtt.py -b 127.0.0.1:1883
    mosquitto_sub -t 'weather/#' & mosquitto_pub -t weather/berlin -m rain -r -q 1

https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html: numbers in brackets are its sections.
All sessions are clean: a client that was away subscribes again. A subscription for QoS 2 is granted
QoS 1; a client that publishes with QoS 2 is disconnected.

A client that does not read fills its outbox; then it misses messages of QoS 0, and is disconnected
at the first one of QoS 1. A client that publishes faster than it reads its acknowledgements waits.
"""

import argparse
import functools
import itertools
import struct
import uuid
from typing import NamedTuple

import anysock

CONNECT_SECONDS = 10
MAX_PACKET = 1 << 20
MAX_OUTBOX = 1000  # packets that wait for a client
MAX_RETAINED = 10_000  # topics

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x40, 0x82, 0x90
UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 0xA2, 0xB0, 0xC0, 0xD0, 0xE0
ACCEPTED, BAD_VERSION, BAD_ID = 0, 1, 2
REFUSED = 0x80
RETAIN = 1


class ProtocolError(Exception):
    """The client has broken the protocol, and is disconnected [4.8]."""


class Message(NamedTuple):
    topic: str
    payload: bytes
    qos: int


class Fields:
    """What is in a packet, taken from its front [1.5]."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise ProtocolError("a packet is shorter than its fields")
        return self.data[self.at - size : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2))

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError:
            raise ProtocolError("a text is not UTF-8") from None
        if "\0" in text:
            raise ProtocolError("a text has a NUL")
        return text

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


def packet(head: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    length, left = bytearray(), len(body)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([head, *length, left]) + body


def is_filter(text: str) -> bool:
    """Whether it is a filter of topics: + stands for a level, # for all that follow [4.7.1]."""
    *levels, last = text.split("/")
    return text != "" and all(
        level == "+" or not {"+", "#"} & set(level) for level in [*levels, last.replace("#", "+") if last == "#" else last]
    )


@functools.lru_cache(maxsize=100_000)
def matches(pattern: str, topic: str) -> bool:
    if topic.startswith("$") and pattern[0] in "+#":
        return False  # these are the broker's own [4.7.2]
    levels = topic.split("/")
    for place, wanted in enumerate(wanted_levels := pattern.split("/")):
        if wanted == "#":
            return True
        if place == len(levels) or wanted not in ("+", levels[place]):
            return False
    return len(levels) == len(wanted_levels)
