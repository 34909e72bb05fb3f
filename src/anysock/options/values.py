"""How options are declared, and how their texts become values."""

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

# ::ffff:0:0/96 is IPv4 in IPv6's clothes (RFC 4291, section 2.5.5.2).
_MAPPED_BITS = 96

# int() and float() would read the digits of every script, and underscores between them.
_WHOLE = re.compile(r"\s*([+-]?\d{1,19})\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)

#: The most that setsockopt(2) and listen(2) take: an int of C.
MOST_OF_AN_INT = 2**31 - 1


@dataclass(frozen=True)
class Option:
    """What is known of one option besides its name, its type and its default."""

    help: str
    #: Turns a text, or a value that a program gave, into the value. Raises `UsageError`.
    parse: Callable[[Any], Any]
    #: How a value is written, so that `parse` reads it again.
    format: Callable[[Any], str] = str
    metavar: str = ""
    short: str | None = None
    #: The values that can be told beforehand, for shells to complete; with a word on each.
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Whether it can be given several times.
    many: bool = False
    #: Whether it is a switch, without a value.
    switch: bool = False
    #: Whether an environment variable gives it, too.
    environment: bool = True
    #: The heading above it, where one begins.
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
        raise UsageError(f"expected a text that can be encoded, not {value!r}") from None
    return value


def switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"expected True or False, not {value!r}")
    return value


def whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    """A whole number of at least `least`, and at most `most`."""

    def parse(value: Any) -> int:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str) and (written := _WHOLE.fullmatch(value)):
            number = int(written[1])
        if number is None:
            raise UsageError(f"expected a whole number, not {value!r}")
        if number < least:
            raise UsageError(f"expected at least {least}, not {value}")
        if most is not None and number > most:
            raise UsageError(f"expected at most {most}, not {value}")
        return number

    return parse


def number(least: float, most: float) -> Callable[[Any], float]:
    """A number from `least` to `most`."""

    def parse(value: Any) -> float:
        try:
            written = isinstance(value, str) and _NUMBER.fullmatch(value)
            if not written and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError
            found = float(value)
        except (ValueError, OverflowError):
            raise UsageError(f"expected a number, not {value!r}") from None
        if not least <= found <= most:
            raise UsageError(f"expected a number from {least:g} to {most:g}, not {value!r}")
        return found

    return parse


def size(value: Any) -> int:
    """At least 1 byte."""
    found = parse_size(value)
    if found < 1:
        raise UsageError(f"expected at least 1 byte, not {value!r}")
    return found


def some_size(value: Any) -> int:
    """0 bytes, or more."""
    return parse_size(value)


def system_size(value: Any) -> int:
    """From 1 byte to `MOST_OF_AN_INT`: what system calls take."""
    found = size(value)
    if found > MOST_OF_AN_INT:
        raise UsageError(f"expected at most {MOST_OF_AN_INT} bytes, not {value!r}")
    return found


def some_rate(value: Any) -> float:
    """At least a byte a second: whoever has to wait for the next does not wait longer than that."""
    found = parse_rate(value)
    if found < 1:
        raise UsageError(f"expected at least 1 byte a second, not {value!r}")
    return found


def one_of(choices: Iterable[str]) -> Callable[[Any], str]:
    known = tuple(choices)

    def parse(value: Any) -> str:
        if value not in known:
            raise UsageError(f"expected one of {', '.join(known)}, not {value!r}")
        return str(value)

    return parse


def engine(value: Any) -> str | Engine:
    return engines.known_engine(value)


def address(value: Any) -> Address:
    return Address.of(text(value) if isinstance(value, str) else value)


def host(value: Any) -> str:
    """The name of a host, or an IP address; one of IPv6 may stand in brackets."""
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
            raise ValueError("numbers and bytes would be addresses, too")
        found = ipaddress.ip_network(value, strict=False)
        first = getattr(found.network_address, "ipv4_mapped", None)
        if first is None or found.prefixlen < _MAPPED_BITS:
            return found
        # As we take it for one of IPv4 who comes from there, so must this be.
        return ipaddress.ip_network((first, found.prefixlen - _MAPPED_BITS))
    except ValueError:
        raise UsageError(
            f"expected a network such as 10.0.0.0/8, or an IP address, not {value!r}"
        ) from None


def path(value: Any) -> str:
    """A file that is there."""
    found = os.fspath(value) if isinstance(value, str | Path) else ""
    try:
        encoded = os.fsencode(found)
    except UnicodeEncodeError:
        encoded = b""
    if not encoded or b"\0" in encoded:
        raise UsageError(f"expected a file, not {value!r}")
    return found


def workers(value: Any) -> int:
    """A number of processes, or ``auto``: as many as this one may use processors."""
    if value == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return whole(1)(value)
