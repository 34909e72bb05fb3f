"""What is known of a history when it is over: the records that the oracles judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from anysock.engines.base import SockAddr
from anysock.options.serve import ServeOptions
from anysock.telemetry.events import CloseReason

#: What answers a stream of bytes: all that comes back once all of them have come, and the end.
Answers = Callable[[bytes], bytes]


class Disturbance(NamedTuple):
    """What was done to the network or to a host, from `began` to `ended`, in seconds."""

    kind: str
    #: The two hosts between which it was done; one, for what was done to it; none: all.
    hosts: tuple[str, ...]
    began: float
    ended: float = math.inf
    #: Whether it ends connections, and does not only make them slow.
    kills: bool = False
    #: The addresses of both ends of the one connection that it was done to; empty: all.
    ends: tuple[SockAddr | None, ...] = ()


@dataclass
class Served:
    """One connection, as its server has told of it."""

    peer: SockAddr
    source: str
    accepted: float
    #: How many connections were open when it was accepted, and how many of its source.
    open_before: int
    of_source_before: int
    opened: float | None = None
    closed: float | None = None
    reason: CloseReason | None = None
    error: BaseException | None = None
    #: What its handler has raised, if that was a failure.
    failure: BaseException | None = None
    received: int = 0
    sent: int = 0
    #: Whether it was aborted, by the server or by its handler.
    aborted: bool = False
    #: Whether TLS was to be spoken, and the handshake was not done.
    in_handshake: bool = False
    #: When the server last took bytes out of its socket, and put some into it, and when the peer's
    #: system last took some, if it has.
    taken_at: float | None = None
    put_at: float | None = None
    acknowledged_at: float | None = None
    #: When the end of the server's stream was put into its socket; when the server first shut the
    #: socket down, in whichever direction; and how many bytes the peer's system had not taken when
    #: the socket was closed. None: not known, or not done.
    ended_at: float | None = None
    let_go_at: float | None = None
    untaken: int | None = None
    #: For how many seconds it had taken nothing when it first wanted to hear no more.
    silence: float | None = None
    #: For how many seconds something had lain in its socket then, while all it had sent was taken.
    lain: float | None = None
    #: How often each was told.
    told_opened: int = 0
    told_closed: int = 0

    def __str__(self) -> str:
        return f"the connection from {self.peer}"


@dataclass
class ServerRecord:
    """A server, as it has told of itself."""

    host: str
    options: ServeOptions
    #: What it answers, if that is known: then its handler also returns at the end of the stream,
    #: and not before.
    answers: Answers | None = None
    #: The same for what is due at once, while there may be more to come.
    answers_at_once: Answers | None = None
    connections: list[Served] = field(default_factory=list)
    #: When the drain began, how many seconds it had, when it was over, and how many it aborted.
    drain_began: float | None = None
    drain_seconds: float = 0.0
    drained: float | None = None
    drain_aborted: int = 0
    #: When accepting failed, and why.
    accept_errors: list[tuple[float, Exception]] = field(default_factory=list)
    housekeeping_errors: list[Exception] = field(default_factory=list)
    #: What its counters say at the end: `Counters.figures`.
    figures: dict[str, object] = field(default_factory=dict)
    #: What `Server.aborted` says at the end.
    aborted: int = 0
    #: What it has ended with, if that was an error.
    failed: BaseException | None = None

    @property
    def tls(self) -> bool:
        """Whether clients speak TLS from the beginning."""
        return any(each.tls for each in self.options.addresses)


@dataclass
class ClientRecord:
    """A client of a server, by what it did and saw itself."""

    name: str
    host: str
    #: When it began to connect; when its system was connected, and from where; or why it was not.
    began: float
    connected: float | None = None
    local: SockAddr | None = None
    refused: OSError | None = None
    #: What it has sent, and when: the time before each send, and how many bytes were sent with it.
    sent: bytearray = field(default_factory=bytearray)
    sends: list[tuple[float, int]] = field(default_factory=list)
    #: From when to when something had come that it did not receive, since it was sending.
    unread: list[tuple[float, float]] = field(default_factory=list)
    #: What it has received, and when: the time, and how many bytes had come by then.
    received: bytearray = field(default_factory=bytearray)
    receives: list[tuple[float, int]] = field(default_factory=list)
    #: When it has ended its stream; has closed; has reset the connection.
    half_closed: float | None = None
    closed: float | None = None
    aborted: float | None = None
    #: When it met the end of the connection as it received, and what that was: an error, or the end
    #: of the stream (None).
    ended: float | None = None
    end: OSError | None = None
    #: What it met as it sent.
    unsent: OSError | None = None
    #: Whether it received all the time, and as fast as it could, until the end.
    keeps_reading: bool = True
    #: Whether it received whenever an answer was due.
    awaits: bool = True

    def __str__(self) -> str:
        return f"client {self.name}"

    @property
    def end_of_stream(self) -> bool:
        """Whether it has seen the server's end of the stream."""
        return self.ended is not None and self.end is None

    @property
    def left(self) -> float:
        """When it has closed or reset; infinite: it has not."""
        return min(each for each in (self.closed, self.aborted, math.inf) if each is not None)


class HostAtEnd(NamedTuple):
    """What a host has when all should be over."""

    name: str
    descriptors: Sequence[str] = ()
    tasks: Sequence[str] = ()


@dataclass
class History:
    """All of it. `latency` is how many seconds a segment takes on its way at most, where no
    disturbance holds it up; `ended` is when the history was over."""

    servers: Sequence[ServerRecord] = ()
    clients: Sequence[ClientRecord] = ()
    disturbances: Sequence[Disturbance] = ()
    hosts: Sequence[HostAtEnd] = ()
    latency: float = 0.0
    ended: float = math.inf

    @cached_property
    def pairs(self) -> list[tuple[ServerRecord, Served, ClientRecord]]:
        """The connections whose both ends are known: a server's peer is the client that had that
        address at that time."""
        clients: dict[SockAddr, list[ClientRecord]] = {}
        for client in sorted(self.clients, key=lambda each: each.began):
            if client.local is not None:
                clients.setdefault(client.local, []).append(client)
        found = []
        for server in self.servers:
            for served in sorted(server.connections, key=lambda each: each.accepted):
                candidates = clients.get(served.peer, [])
                earlier = [each for each in candidates if each.began <= served.accepted]
                if earlier:
                    # An address may be used again. The backlog keeps the order.
                    candidates.remove(earlier[0])
                    found.append((server, served, earlier[0]))
        return found

    def backlog_was_full(self, server: ServerRecord, client: ClientRecord) -> bool:
        """Whether so many others waited to be accepted when the client was connected that the last
        of its three segments may have been dropped (listen(2)): the server knows of it a second
        later, or never. Where something held that segment up, it may have come at any later time.
        """
        accepted = {id(each): served.accepted for of, served, each in self.pairs if of is server}
        at = client.connected or 0.0
        moments = [at]
        if self.held_up(server, client, since=at, until=at + self.latency):
            until = accepted.get(id(client), self.ended)
            came = (each.connected for each in self.clients if each.connected is not None)
            moments += [each for each in came if at < each <= until]
        waits = [
            (each.connected, accepted.get(id(each), each.ended or self.ended))
            for each in self.clients
            if each is not client and each.connected is not None
        ]
        return any(
            sum(begins <= at + self.latency and at < over for begins, over in waits)
            >= server.options.backlog
            for at in moments
        )

    def done_to(
        self, server: ServerRecord, client: ClientRecord | None = None
    ) -> Iterator[Disturbance]:
        """What was done to the server's host, to the client's, or between the two."""
        hosts = {server.host} if client is None else {server.host, client.host}
        for each in self.disturbances:
            if hosts.issuperset(each.hosts) and (
                not each.ends or client is None or client.local in each.ends
            ):
                yield each

    def killed(
        self, server: ServerRecord, client: ClientRecord | None = None, until: float = math.inf
    ) -> bool:
        """Whether a disturbance may have ended the connection."""
        return any(each.kills and each.began <= until for each in self.done_to(server, client))

    def held_up(
        self,
        server: ServerRecord,
        client: ClientRecord | None = None,
        *,
        since: float,
        until: float,
    ) -> bool:
        """Whether anything may have made server, client, or what is between, slow within this
        time."""
        return any(
            each.began <= until and each.ended >= since for each in self.done_to(server, client)
        )
