"""What a load is: the plan that is handed to each worker process, and the words for its parts."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Self

from anysock.clients import MAX_DATAGRAM
from anysock.errors import UsageError
from anysock.net.addresses import Address

#: Bytes in flight on each connection.
MAX_IN_FLIGHT = 1 << 30

#: The shortest interval whose figures are told alone, and the most that there may be of them.
SHORTEST_INTERVAL = 0.1
MAX_INTERVALS = 10_000

# How often a worker reports, at least. Seconds.
_TICK = 0.25

#: How many bytes hold the length of a frame.
FRAME_PREFIX = 4


#: What a load may do; all but the first are one-way: nothing is answered.
MODES = ("echo", "sink", "source", "both")


@dataclass(frozen=True)
class Plan:
    """A load on one address. Sizes in bytes, times in seconds.

    Without a rate the loop is closed: each connection has `depth` messages in flight, and sends
    the next when one comes back; so a server that stalls gets fewer messages, and its stall is
    counted once. With a rate the loop is open: messages are sent on schedule, whatever the server
    does, and a latency counts from the time when the message was due (coordinated omission:
    HdrHistogram issue 148).

    All that is of the mode ``echo``. In the others data flow as fast as they can: to the server
    (``sink``), from it (``source``), or both ways at once. `size` is then what is sent at once.
    """

    address: Address
    #: One of `MODES`.
    mode: str = "echo"
    connections: int = 50
    size: int = 64
    #: Messages in flight on each connection, in a closed loop.
    depth: int = 1
    duration: float = 10.0
    #: End after this number of messages, instead of after `duration`.
    messages: int | None = None
    #: Seconds of load before the measurement.
    warmup: float = 1.0
    #: Seconds of load whose figures are told together.
    interval: float = 1.0
    #: Messages a second, of all connections together; None: a closed loop.
    rate: float | None = None
    processes: int = 1
    #: Messages are lines of text that end with CRLF.
    lines: bool = False
    #: Messages are frames: their length in 4 bytes, big-endian, and then as many bytes.
    frames: bool = False
    #: Close a connection after this number of messages, and open another.
    churn: int | None = None
    #: Close with a reset, which leaves no TIME_WAIT behind; for `churn`.
    reset: bool = False
    #: For a tls:// address: the file of trusted authorities (None: those of the system), or with
    #: `insecure` any certificate is trusted. Our own certificate and key, if the server requires
    #: one.
    tls_ca: str | None = None
    insecure: bool = False
    tls_cert: str | None = None
    tls_key: str | None = None
    #: Begin each connection with a header of the PROXY protocol, in version 1 or 2.
    send_proxy: int | None = None
    #: How long an answer may take before its connection is given up.
    timeout: float = 5.0

    def check(self) -> Self:
        """Raises `UsageError` if the fields contradict each other."""
        if self.processes > self.connections:
            raise UsageError(
                f"{self.processes} processes for {self.connections} connections: each needs one"
            )
        if self.interval < SHORTEST_INTERVAL:
            raise UsageError("--interval is 100ms at least")
        if self.messages is None and self.duration > MAX_INTERVALS * self.interval:
            raise UsageError(
                f"--interval: there would be more than {MAX_INTERVALS:,} of them; choose a longer "
                "one, or a shorter --duration"
            )
        if self.one_way:
            self._check_one_way()
        if self.lines and self.size < 2:
            raise UsageError("a line has at least 2 bytes, CR and LF")
        if self.frames and self.size < FRAME_PREFIX:
            raise UsageError(f"a frame has at least {FRAME_PREFIX} bytes, which hold its length")
        if self.lines and self.frames:
            raise UsageError("messages are lines or frames: choose one of --lines, --frames")
        if self.depth * self.size > MAX_IN_FLIGHT:
            raise UsageError(
                f"--depth {self.depth} times --size {self.size} is more than 1GiB in flight on "
                "each connection"
            )
        if self.rate is not None and self.depth != 1:
            raise UsageError(
                "--depth is for a closed loop; with --rate, messages are sent on schedule, however "
                "many are in flight"
            )
        if self.churn is not None and self.depth != 1:
            raise UsageError("with --churn, a connection has one message in flight: no --depth")
        if self.address.kind not in ("tcp", "unix", "udp"):
            raise UsageError(f"{self.address} is only for servers: a client cannot connect to it")
        if self.address.kind == "udp":
            if self.churn is not None or self.lines or self.frames:
                raise UsageError(
                    "over UDP there are no connections, lines and frames: no --churn, --lines, "
                    "--frames"
                )
            if not 8 <= self.size <= MAX_DATAGRAM:
                raise UsageError(
                    f"a datagram has from 8 bytes, for its number, to {MAX_DATAGRAM}: choose "
                    "another --size"
                )
        if not self.address.tls and (self.tls_ca or self.insecure or self.tls_cert):
            raise UsageError(f"the options of TLS are for tls:// addresses; {self.address} is none")
        if self.messages is not None and self.messages < self.connections:
            raise UsageError(
                f"{self.messages} messages for {self.connections} connections: each sends one"
            )
        return self

    def _check_one_way(self) -> None:
        if self.address.kind == "udp":
            raise UsageError(f"--mode {self.mode} is for connections, which UDP has not")
        for name, given in (
            ("rate", self.rate), ("messages", self.messages), ("churn", self.churn),
            ("lines", self.lines), ("frames", self.frames), ("depth", self.depth != 1),
        ):  # fmt: skip
            if given:
                raise UsageError(
                    f"--mode {self.mode} has no messages that are answered: no --{name}"
                )

    def share(self, number: int) -> Plan:
        """What worker `number`, from 0, of `processes` does of it."""

        def part(of: int) -> int:
            return of // self.processes + (number < of % self.processes)

        return dataclasses.replace(
            self,
            connections=part(self.connections),
            messages=None if self.messages is None else part(self.messages),
        )

    @property
    def one_way(self) -> bool:
        """Whether nothing is answered."""
        return self.mode != "echo"

    @property
    def sends(self) -> bool:
        """Of a one-way load: whether it sends."""
        return self.mode in ("sink", "both")

    @property
    def receives(self) -> bool:
        """Of a one-way load: whether it receives."""
        return self.mode in ("source", "both")

    @property
    def tick(self) -> float:
        """How often a worker reports. A whole number of ticks make an interval."""
        return self.interval / math.ceil(self.interval / _TICK)

    @property
    def loop(self) -> str:
        """``closed`` or ``open``; ``none`` where nothing is answered."""
        if self.one_way:
            return "none"
        return "closed" if self.rate is None else "open"

    def to_json(self) -> str:
        fields = dataclasses.asdict(self) | {"address": str(self.address)}
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        fields = json.loads(text)
        return cls(**fields | {"address": Address.parse(fields["address"])})
