"""The example of MQTT, with paho and mosquitto, and with packets that these never send."""

from __future__ import annotations

import contextlib
import queue
import shutil

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from tests.harness import (
    CONCURRENT_ENGINES,
    PATIENCE,
    receive_all,
    receive_exactly,
    reset,
    wait_until,
)
from tests.protocols.conftest import load, run_client

# For what is in the program alone, and is the same under every engine.
on_one_engine = pytest.mark.parametrize("broker", ["selector"], indirect=True)


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def broker(request, serving):
    with serving("mqtt.py", request.param) as broker:
        yield broker
        # The drain ends a connection at rest.
        with connected(broker) as client:
            broker.signal()
            assert receive_all(client) == b""
        assert broker.wait() == 0


class Paho:
    """A client of paho's, which has a thread of its own."""

    def __init__(self, broker, name: str = "", *, will: str = "", keep_alive: int = 60) -> None:
        self.messages: queue.Queue[tuple[str, bytes, int, bool]] = queue.Queue()
        self._granted: queue.Queue[list[int]] = queue.Queue()
        self._paho = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)
        self._paho.on_message = lambda _client, _data, message: self.messages.put(
            (message.topic, bytes(message.payload), message.qos, message.retain)
        )
        self._paho.on_subscribe = lambda _client, _data, _number, codes, _properties: (
            self._granted.put([code.value for code in codes])
        )
        if will:
            self._paho.will_set(will, b"gone", qos=1, retain=True)
        self._paho.connect("127.0.0.1", broker.port, keep_alive)
        self._paho.loop_start()
        wait_until(self._paho.is_connected, "CONNACK has come")

    def subscribe(self, *filters: tuple[str, int]) -> list[int]:
        self._paho.subscribe(list(filters))
        return self._granted.get(timeout=PATIENCE)

    def unsubscribe(self, text: str) -> None:
        gone = queue.Queue[bool]()
        self._paho.on_unsubscribe = lambda *_: gone.put(True)
        self._paho.unsubscribe(text)
        gone.get(timeout=PATIENCE)

    def publish(self, topic: str, payload: bytes, qos: int = 0, *, retain: bool = False) -> None:
        """Returns when it is sent, and with QoS 1 when it is acknowledged."""
        self._paho.publish(topic, payload, qos, retain).wait_for_publish(PATIENCE)

    def next(self) -> tuple[str, bytes, int, bool]:
        return self.messages.get(timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._paho.disconnect()
        self._paho.loop_stop()


# -- packets by hand ---------------------------------------------------------------------------

ACCEPTED = b"\x20\x02\0\0"
DISCONNECT, PINGREQ, PINGRESP = b"\xe0\0", b"\xc0\0", b"\xd0\0"


def text(value: str) -> bytes:
    return len(value).to_bytes(2) + value.encode()


def packet(head: int, *fields: bytes) -> bytes:
    body = b"".join(fields)
    assert len(body) < 128 * 128
    length = [len(body)] if len(body) < 128 else [len(body) & 127 | 128, len(body) >> 7]
    return bytes([head, *length]) + body


def connect(
    name: str = "", *, flags: int = 2, version: int = 4, keep_alive: int = 0, more: bytes = b""
) -> bytes:
    head = bytes([version, flags]) + keep_alive.to_bytes(2)
    return packet(0x10, text("MQTT"), head, text(name), more)


def publish(topic: str, payload: bytes = b"", *, qos: int = 0, number: int = 1) -> bytes:
    return packet(0x30 | qos << 1, text(topic), number.to_bytes(2) if qos else b"", payload)


def subscribe(*filters: tuple[str, int], number: int = 1) -> bytes:
    asked = [text(each) + bytes([qos]) for each, qos in filters]
    return packet(0x82, number.to_bytes(2), *asked)


@contextlib.contextmanager
def connected(broker, name: str = "", **more):
    with broker.connect() as client:
        client.sendall(connect(name, **more))
        assert receive_exactly(client, 4) == ACCEPTED
        yield client


# -- under every engine --------------------------------------------------------------------------


def test_paho(broker):
    with Paho(broker, "reader") as reader, Paho(broker) as writer:
        assert reader.subscribe(("a/+/c", 0), ("b/#", 1), ("b/x", 2)) == [0, 1, 1]
        writer.publish("a/b/c", b"one", qos=1)
        writer.publish("a/b/c/d", b"nobody asks for it")
        writer.publish("b", b"two")
        writer.publish("b/x", b"three" * 1000, qos=1)
        writer.publish("$b/x", b"nor for this")
        assert reader.next() == ("a/b/c", b"one", 0, False)
        assert reader.next() == ("b", b"two", 0, False)
        assert reader.next() == ("b/x", b"three" * 1000, 1, False)
        reader.unsubscribe("b/#")
        writer.publish("b/y", b"four", qos=1)
        writer.publish("b/x", b"five", qos=1)
        assert reader.next() == ("b/x", b"five", 1, False)


def test_paho_and_what_is_retained(broker):
    with Paho(broker) as writer:
        writer.publish("kept/1", b"old", qos=1, retain=True)
        writer.publish("kept/1", b"new", qos=1, retain=True)
        writer.publish("kept/2", b"forgotten", qos=1, retain=True)
        writer.publish("kept/2", b"", qos=1, retain=True)
        with Paho(broker) as reader:
            reader.subscribe(("kept/#", 1))
            assert reader.next() == ("kept/1", b"new", 1, True)
            writer.publish("kept/3", b"now", retain=True)
            assert reader.next() == ("kept/3", b"now", 0, False)


def test_paho_and_a_will(broker):
    broker.expected_errors.append("aborted the connection")
    with Paho(broker) as reader, Paho(broker, "heir", will="left/heir"):
        reader.subscribe(("left/#", 1))
        with connected(broker, "x", flags=6, more=text("left/x") + text("lost")) as client:
            reset(client)
        assert reader.next() == ("left/x", b"lost", 0, False)
        # Its session is taken over by another of its name [3.1.4].
        with connected(broker, "heir") as other:
            assert reader.next() == ("left/heir", b"gone", 1, False)
            other.sendall(DISCONNECT)
            assert receive_all(other) == b""
        # And without a will, or with a DISCONNECT, nothing is said.
        with connected(broker, "y", flags=6, more=text("left/y") + text("lost")) as client:
            client.sendall(DISCONNECT + b"")
            assert receive_all(client) == b""
        with Paho(broker) as writer:
            writer.publish("left/end", b"")
        assert reader.next()[0] == "left/end"


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="there is paho, too")
def test_mosquitto(broker):
    where = ("-h", "127.0.0.1", "-p", str(broker.port))
    run_client("mosquitto_pub", *where, "-t", "weather/berlin", "-m", "rain", "-q", "1", "-r")
    told = run_client("mosquitto_sub", *where, "-t", "weather/#", "-q", "1", "-C", "1", "-v")
    assert told == "weather/berlin rain\n"


def test_pipelined_packets_are_answered_in_order(broker):
    with broker.connect() as client:
        client.sendall(
            connect() + subscribe(("own", 1), number=7) + publish("own", b"x", qos=1) + PINGREQ
        )
        expected = ACCEPTED + b"\x90\x03\0\x07\x01"
        expected += publish("own", b"x", qos=1) + b"\x40\x02\0\x01" + PINGRESP
        assert receive_exactly(client, len(expected)) == expected


def test_a_reader_that_does_not_read_hurts_nobody(broker):
    """And is disconnected when it would miss what it must not miss."""
    broker.expected_errors.append("aborted the connection")
    with connected(broker) as deaf, Paho(broker) as reader, Paho(broker) as writer:
        deaf.sendall(subscribe(("news", 1)))
        receive_exactly(deaf, 5)
        reader.subscribe(("news", 1))
        for number in range(300):
            payload = b"%d" % number + b"x" * 100_000
            writer.publish("news", payload, qos=1)
            assert reader.next()[1] == payload
        with pytest.raises(ConnectionResetError):
            receive_all(deaf)


# -- under one engine ------------------------------------------------------------------------------


@on_one_engine
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(connect(version=5), b"\x20\x02\0\x01", id="version"),
        pytest.param(connect(flags=0), b"\x20\x02\0\x02", id="a-session-without-a-name"),
        pytest.param(connect(flags=3), b"", id="reserved-flag"),
        pytest.param(packet(0x10, text("HTTP"), b"\x04\2\0\0\0\0"), b"", id="another-protocol"),
        pytest.param(PINGREQ, b"", id="no-connect"),
        pytest.param(connect() + connect(), ACCEPTED, id="two-connects"),
        pytest.param(connect(flags=6, more=text("a/#") + text("")), b"", id="will-with-wildcard"),
        pytest.param(connect(flags=6, more=text("a") + b"\0\1"), b"", id="will-cut-off"),
        pytest.param(connect() + publish("a/+"), ACCEPTED, id="wildcard"),
        pytest.param(connect() + publish(""), ACCEPTED, id="no-topic"),
        pytest.param(connect() + publish("a\0"), ACCEPTED, id="nul"),
        pytest.param(connect() + publish("a", qos=2), ACCEPTED, id="qos-2"),
        pytest.param(connect() + packet(0x30, b"\0\1\xff"), ACCEPTED, id="no-utf-8"),
        pytest.param(connect() + subscribe(), ACCEPTED, id="subscribe-to-nothing"),
        pytest.param(connect() + subscribe(("a#", 0)), ACCEPTED, id="filter"),
        pytest.param(connect() + subscribe(("a", 3)), ACCEPTED, id="qos-3"),
        pytest.param(connect() + packet(0x80, b"\0\1\0\1a\0"), ACCEPTED, id="fixed-flags"),
        pytest.param(connect() + b"\xf0\0", ACCEPTED, id="unknown-packet"),
        pytest.param(connect() + b"\x30\xff\xff\xff\x7f", ACCEPTED, id="too-long"),
        pytest.param(b"\x10" + b"\x80" * 12, b"", id="length-without-an-end"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n" + b"x" * 100, b"", id="http"),
    ],
)
def test_what_breaks_the_protocol_ends_the_connection(broker, said, answer):
    broker.expected_errors.append("frame longer than 1048576 bytes")
    with broker.connect() as client:
        client.sendall(said)
        assert receive_all(client) == answer


@on_one_engine
def test_a_client_that_says_nothing_is_disconnected(broker):
    with connected(broker, keep_alive=1) as client:
        assert receive_all(client) == b""
    broker.wait_for("disconnected: ")


# -- without a server ------------------------------------------------------------------------------

MQTT = load("mqtt.py")
LEVELS = st.lists(st.sampled_from(["a", "b", "", "$a", "ab"]), min_size=1, max_size=4)
WANTED = st.lists(st.sampled_from(["a", "b", "", "$a", "+"]), min_size=1, max_size=4)


def matches(wanted: list[str], levels: list[str]) -> bool:
    """Level by level, as 4.7 of the standard has it."""
    if wanted == ["#"]:
        return True
    if not wanted or not levels:
        return not wanted and not levels
    return wanted[0] in ("+", levels[0]) and matches(wanted[1:], levels[1:])


@given(wanted=WANTED, levels=LEVELS, rest=st.booleans())
def test_a_filter_matches_as_the_standard_says(wanted, levels, rest):
    wanted = wanted + ["#"] * rest
    pattern, topic = "/".join(wanted), "/".join(levels)
    if not pattern or not topic:
        return
    assert MQTT.FILTER.fullmatch(pattern)
    hidden = topic.startswith("$") and wanted[0] in ("+", "#")
    found = MQTT.compiled(pattern).fullmatch(topic)
    assert (found is not None) == (matches(wanted, levels) and not hidden)


@pytest.mark.parametrize("bad", ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a/b+/c", "##", "a\0b"])
def test_what_is_no_filter(bad):
    assert not MQTT.FILTER.fullmatch(bad)
