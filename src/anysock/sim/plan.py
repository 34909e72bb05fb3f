"""A plan: all that decides a history, so that the same plan is the same history.

A seed alone is only good for the version that drew from it. A plan says in plain figures who
connects when and does what, which options the server has and which faults are on; what is left to
the seed is when they strike. It is what is drawn, shrunk, written to a file, and run.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self, TypeAlias

from anysock.engines.sim.dice import Dice, hash_of
from anysock.errors import UsageError
from anysock.options.serve import OPTIONS, ServeOptions
from anysock.options.units import parse_size
from anysock.sim import knobs, reading

#: The version of the form in which plans are written.
FORMAT = 1

#: How a client reads what is answered: as it comes; little by little; not at all.
READING = ("at once", "slowly", "never")

#: How a client ends: it sends the end of its stream, and reads the rest; it closes; it resets; it
#: stays, and does nothing more until the server ends it.
ENDS = ("half-close", "close", "reset", "stay")

#: Parameters of a kind of fault, by name.
Parameters: TypeAlias = Mapping[str, float]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Message:
    """So many bytes, sent after a pause in seconds."""

    size: int
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Client:
    """What one client does. Its number stays when others are dropped: what is drawn while it runs
    comes from a stream of its own."""

    number: int
    messages: tuple[Message, ...] = ()
    #: When it connects, in seconds.
    starts: float = 0.0
    #: On which of the hosts of clients it is.
    host: int = 0
    #: Whether it waits for the answer to a message before it sends the next.
    turns: bool = True
    reading: str = "at once"
    ends: str = "half-close"

    def changed(self, **fields: Any) -> Client:
        """The same client but for `fields`."""
        return dataclasses.replace(self, **fields)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a history. Times are in virtual seconds, from the start."""

    seed: int
    clients: tuple[Client, ...] = ()
    #: Options of the server, as `anysock.Server` takes them.
    options: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    #: The kinds of faults that are on, each with its parameters.
    faults: Mapping[str, Parameters] = field(default_factory=lambda: _NOTHING)
    #: Of a kind of fault, only these occurrences strike, named by what they strike at and their
    #: number there, such as ``client3#0``; of a kind that is not named here, all do.
    only: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)
    #: When the server is drained, even if clients are still busy; None: when all have ended.
    drain_at: float | None = None
    #: Whether server and clients speak TLS.
    tls: bool = False

    def changed(self, **fields: Any) -> Plan:
        """The same plan but for `fields`."""
        return dataclasses.replace(self, **fields)

    # -- as text ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` reads. What is as it usually is, is left out."""
        data: dict[str, Any] = {"format": FORMAT, "seed": self.seed}
        if self.drain_at is not None:
            data["drain_at"] = self.drain_at
        if self.tls:
            data["tls"] = True
        if self.options:
            data["options"] = dict(self.options)
        if self.faults:
            data["faults"] = {kind: dict(found) for kind, found in self.faults.items()}
        if self.only:
            data["only"] = {kind: list(places) for kind, places in self.only.items()}
        if self.clients:
            data["clients"] = [_client_dict(client) for client in self.clients]
        return data

    def to_json(self, *, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "plan") -> Self:
        """Raises `UsageError` for what is no plan; it says where in `where`."""
        return cls.from_dict(reading.parse(text, where), where)

    @classmethod
    def from_dict(cls, data: Any, where: str = "plan") -> Self:
        """Raises `UsageError` for what is no plan; it says where in `where`."""
        found = reading.record(data, where, ("format", *cls.__slots__))
        written = reading.needed(found, "format", where)
        if written != FORMAT:
            raise UsageError(
                f"{where}: it has format {written!r}; this version of anysock reads {FORMAT}"
            )
        drain_at = found.get("drain_at")
        plan = cls(
            seed=reading.whole(reading.needed(found, "seed", where), f"{where}.seed"),
            clients=reading.several(found.get("clients", []), f"{where}.clients", _client),
            options=_options(found.get("options", {}), f"{where}.options"),
            faults=reading.named(found.get("faults", {}), f"{where}.faults", _parameters),
            only=reading.named(found.get("only", {}), f"{where}.only", _places),
            drain_at=None if drain_at is None else reading.number(drain_at, f"{where}.drain_at"),
            tls=reading.switch(found.get("tls", False), f"{where}.tls"),
        )
        numbers = [client.number for client in plan.clients]
        if len(set(numbers)) < len(numbers):
            raise UsageError(f"{where}.clients: two have the same number")
        return plan

    # -- drawing ---------------------------------------------------------------------------------

    @classmethod
    def draw(
        cls,
        seed: int,
        *,
        clients: int = 20,
        messages: int = 10,
        size: int = 1000,
        faults: Mapping[str, Parameters] = _NOTHING,
        options: Mapping[str, Any] = _NOTHING,
        swarm: bool = True,
        tls: bool = False,
    ) -> Self:
        """The plan of `seed`, with `clients` clients, each with at most `messages` messages of at
        most `size` bytes.

        With `swarm`, each of `faults` is on or off, each of the options that `knobs` knows may have
        any value (those in `options` have theirs), the clients are of all kinds, and the drain may
        come at any moment: a history in which all is on at once hides what needs but one of them.
        Without it, all `faults` are on, and clients do the plain thing.
        """
        if not swarm:
            plain = tuple(Message(size) for _ in range(messages))
            several = tuple(Client(number, plain, host=number) for number in range(clients))
            return cls(seed, several, options, faults, tls=tls)
        on = {kind: each for kind, each in faults.items() if hash_of("swarm", seed, kind) % 2}
        chance = Dice(hash_of("plan", seed))
        changes = int(12 * chance.random()) - 5
        if "schedule" in on and not on["schedule"] and changes > 0:
            on["schedule"] = {"changes": changes}
        hosts = 1 + int(clients * chance.random() ** 2)
        within = 2 * chance.random()
        turned = knobs.together(knobs.draw(chance, clients, size), options)
        unread = min(_UNREAD, _MAX_RECEIVES * parse_size(turned.get("recv_size") or _UNREAD))
        return cls(
            seed,
            tuple(
                _draw_client(
                    seed,
                    number,
                    hosts=hosts,
                    within=within,
                    messages=messages,
                    size=size,
                    unread=unread,
                )
                for number in range(clients)
            ),
            turned,
            on,
            drain_at=round(3 * chance.random(), 4) if chance.random() < 0.5 else None,
            tls=tls,
        )


# How large the messages may be of a client that reads nothing, in bytes: a line may have that size.
_UNREAD = 60_000
# Where a server takes a byte at a time, one such message would last as long as a hundred other
# histories: one of theirs takes no more receives than this.
_MAX_RECEIVES = 1000


def _draw_client(
    seed: int,
    number: int,
    *,
    hosts: int,
    within: float,
    messages: int,
    size: int,
    unread: int,
) -> Client:
    draw = Dice(hash_of("client", seed, number)).random
    reading = "at once" if draw() < 0.8 else READING[1 + (draw() < 0.4)]
    # Small ones show where messages meet, large ones fill buffers.
    largest = size if draw() < 0.5 else min(size, 40)
    if reading == "never":
        # What all buffers together can't hold: else nobody would notice.
        largest = max(unread, size)
    longest = 0.0 if draw() < 0.5 else draw()
    return Client(
        number,
        tuple(
            Message(1 + int(largest * draw()), round(longest * draw(), 4))
            for _ in range(int((messages + 1) * draw()))
        ),
        starts=round(within * draw(), 4),
        host=int(hosts * draw()),
        turns=reading == "at once" and draw() < 0.5,
        reading=reading,
        ends=ENDS[0] if draw() < 0.5 else ENDS[int(len(ENDS) * draw())],
    )


# What a client does when nothing else is said.
_USUAL = {each.name: each.default for each in dataclasses.fields(Client)}


def _client_dict(client: Client) -> dict[str, Any]:
    data = {name: getattr(client, name) for name in Client.__slots__}
    data["messages"] = [
        [each.size, each.pause] if each.pause else each.size for each in client.messages
    ]
    return {name: value for name, value in data.items() if value not in (_USUAL[name], [])}


def _client(data: Any, where: str) -> Client:
    found = reading.record(data, where, Client.__slots__)
    return Client(
        number=reading.whole(reading.needed(found, "number", where), f"{where}.number"),
        messages=reading.several(found.get("messages", []), f"{where}.messages", _message),
        starts=reading.number(found.get("starts", 0.0), f"{where}.starts"),
        host=reading.whole(found.get("host", 0), f"{where}.host"),
        turns=reading.switch(found.get("turns", True), f"{where}.turns"),
        reading=reading.one_of(found.get("reading", READING[0]), f"{where}.reading", READING),
        ends=reading.one_of(found.get("ends", ENDS[0]), f"{where}.ends", ENDS),
    )


def _message(data: Any, where: str) -> Message:
    """A size, or a list of a size and a pause."""
    if not isinstance(data, list):
        return Message(reading.whole(data, where, 1))
    if len(data) != 2:
        raise UsageError(f"{where}: expected a size and a pause, not {len(data)} values")
    return Message(reading.whole(data[0], where, 1), reading.number(data[1], where))


def _parameters(data: Any, where: str) -> dict[str, float]:
    return reading.named(data, where, reading.number)


def _places(data: Any, where: str) -> tuple[str, ...]:
    return reading.several(data, where, reading.text)


def _options(data: Any, where: str) -> dict[str, Any]:
    options = reading.record(data, where, OPTIONS)
    try:
        ServeOptions(**options)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return options
