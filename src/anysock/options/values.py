"""How an option is declared, and how a text becomes the value of each kind of option."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anysock import engines
from anysock.engines.base import Engine
from anysock.errors import UsageError
from anysock.net.addresses import Address
from anysock.net.networks import Network
from anysock.options.units import parse_rate, parse_size, raw_bytes

# ::ffff:0:0/96 holds the IPv4-mapped IPv6 addresses (RFC 4291, section 2.5.5.2).
_MAPPED_BITS = 96

# int() and float() alone would accept the digits of every script, and underscores between them.
_WHOLE = re.compile(r"\s*([+-]?\d{1,19})\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)

# What has a comma or a blank is no name that was ever registered.
_PROTOCOL = re.compile(r"[!-+\--~]{1,255}", re.ASCII)

#: The maximum of setsockopt(2) and listen(2): both take a C int.
MAX_C_INT = 2**31 - 1


@dataclass(frozen=True)
class Option:
    """What is declared for one option, besides its name, its type and its default."""

    help: str
    #: Converts a text, or a value from a program, to the option's value. Raises `UsageError`.
    parse: Callable[[Any], Any]
    #: The inverse of `parse`: the text of a value.
    format: Callable[[Any], str] = str
    metavar: str = ""
    short: str | None = None
    #: Values that shells offer for completion, each with a short description.
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Whether the option can be given several times.
    many: bool = False
    #: Whether the option is a switch, without a value.
    switch: bool = False
    #: Whether an environment variable can set it, too.
    environment: bool = True
    #: The heading of the group that begins with this option; empty for the others.
    group: str = ""


def option(default: Any, help: str, parse: Callable[[Any], Any], **more: Any) -> Any:
    """A field of a dataclass of options. `more` are fields of `Option`."""
    spec = Option(help, parse, **more)
    return dataclasses.field(default=default, metadata={"option": spec})


def flag(name: str) -> str:
    """The option's name on the command line: ``drain_timeout`` is ``--drain-timeout``."""
    return "--" + name.replace("_", "-")


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"expected a text, not {value!r}")
    try:
        raw_bytes(value)
    except UnicodeEncodeError:
        raise UsageError(f"expected a text that UTF-8 can encode, not {value!r}") from None
    return value


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"expected True or False, not {value!r}")
    return value


def whole(minimum: int, maximum: int | None = None) -> Callable[[Any], int]:
    """A parser of whole numbers from `minimum` to `maximum`."""

    def parse(value: Any) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str) and (written := _WHOLE.fullmatch(value)):
            number = int(written[1])
        if number is None:
            raise UsageError(f"expected a whole number, not {value!r}")
        if number < minimum:
            raise UsageError(f"expected at least {minimum}, not {value}")
        if maximum is not None and number > maximum:
            raise UsageError(f"expected at most {maximum}, not {value}")
        return number

    return parse


def number(minimum: float, maximum: float) -> Callable[[Any], float]:
    """A parser of numbers from `minimum` to `maximum`."""

    def parse(value: Any) -> float:
        try:
            written = isinstance(value, str) and _NUMBER.fullmatch(value)
            if not written and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError
            found = float(value)
        except (ValueError, OverflowError):
            raise UsageError(f"expected a number, not {value!r}") from None
        if not minimum <= found <= maximum:
            raise UsageError(f"expected a number from {minimum:g} to {maximum:g}, not {value!r}")
        return found

    return parse


def positive_size(value: Any) -> int:
    """A size of at least 1 byte."""
    found = parse_size(value)
    if found < 1:
        raise UsageError(f"expected at least 1 byte, not {value!r}")
    return found


#: The smallest size that a trace may have at most.
MIN_TRACE = 4096


def trace_size(value: Any) -> int:
    """A size from `MIN_TRACE` bytes."""
    found = parse_size(value)
    if found < MIN_TRACE:
        raise UsageError(f"expected at least {MIN_TRACE} bytes, not {value!r}")
    return found


def system_size(value: Any) -> int:
    """A size from 1 byte to `MAX_C_INT`, as system calls take it."""
    found = positive_size(value)
    if found > MAX_C_INT:
        raise UsageError(f"expected at most {MAX_C_INT} bytes, not {value!r}")
    return found


def positive_rate(value: Any) -> float:
    """A rate of at least 1 byte per second, so that the wait for one byte is at most 1 second."""
    found = parse_rate(value)
    if found < 1:
        raise UsageError(f"expected at least 1 byte per second, not {value!r}")
    return found


def one_of(choices: Iterable[str]) -> Callable[[Any], str]:
    known = tuple(choices)

    def parse(value: Any) -> str:
        if value not in known:
            raise UsageError(f"expected one of {', '.join(known)}, not {value!r}")
        return str(value)

    return parse


def engine(value: Any) -> str | Engine:
    known = engines.known_engine(value)
    if isinstance(known, str) and known in engines.UNLISTED:
        raise UsageError(
            f"the engine {known!r} has a network of its own, which no client can reach: run both "
            f"there, by anysock.run(main, engine={known!r}), or see `anysock sim`"
        )
    return known


def address(value: Any) -> Address:
    return Address.of(text(value) if isinstance(value, str) else value)


def host(value: Any) -> str:
    """A host name, or an IP address; brackets around an IPv6 address are allowed."""
    found = text(value)
    inner = found[1:-1] if found.startswith("[") and found.endswith("]") else found
    try:
        return Address.parse(f"[{inner}]:0" if ":" in inner else f"{found}:0").host
    except UsageError:
        raise UsageError(
            f"expected a host, such as localhost, 0.0.0.0 or ::1, not {value!r}"
        ) from None


def admin_address(value: Any) -> Address:
    if isinstance(value, Address):
        found = value
    else:
        port_alone = isinstance(value, int | str) and str(value).isdecimal()
        written = f":{value}" if port_alone else text(value)
        found = Address.parse(written, default_host="127.0.0.1", schemes=("tcp",))
    if found.scheme != "tcp":
        raise UsageError(f"expected host:port, not {value!r}")
    return found


def network(value: Any) -> Network:
    """An IP address, or a network such as 10.0.0.0/8."""
    try:
        if not isinstance(value, str | Network | ipaddress.IPv4Address | ipaddress.IPv6Address):
            raise ValueError("ip_network() would take numbers and bytes, too")
        found = ipaddress.ip_network(value, strict=False)
        first = getattr(found.network_address, "ipv4_mapped", None)
        if first is None or found.prefixlen < _MAPPED_BITS:
            return found
        # A peer with an IPv4-mapped address counts as its IPv4 address; so must its network.
        return ipaddress.ip_network((first, found.prefixlen - _MAPPED_BITS))
    except ValueError:
        raise UsageError(
            f"expected a network such as 10.0.0.0/8, or an IP address, not {value!r}"
        ) from None


def path(value: Any) -> str:
    """The path of a file; whether the file exists is found out when it is read."""
    found = os.fspath(value) if isinstance(value, str | Path) else ""
    try:
        encoded = os.fsencode(found)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or b"\0" in encoded:
        raise UsageError(f"expected a file, not {value!r}")
    return found


def protocols(value: Any) -> tuple[str, ...]:
    """Names of protocols for ALPN (RFC 7301, 3.1): a text with commas, or several texts."""
    several = value.split(",") if isinstance(value, str) else value
    if not isinstance(several, list | tuple):
        raise UsageError(f"expected names of protocols, such as h2,http/1.1, not {value!r}")
    for each in several:
        if not isinstance(each, str) or not _PROTOCOL.fullmatch(each):
            raise UsageError(f"expected names of protocols, such as h2,http/1.1, not {each!r}")
    return tuple(several)


def workers(value: Any) -> int:
    """A number of processes; ``auto`` means the number of processors this process may use."""
    if value == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return whole(1)(value)
