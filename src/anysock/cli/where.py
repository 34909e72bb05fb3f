"""The address of a client's server: ADDRESS, or HOST PORT as in telnet(1)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from anysock.errors import UsageError
from anysock.net.addresses import REACHABLE, Address

F = TypeVar("F", bound=Callable[..., Any])

_parse = functools.partial(Address.parse, default_host="127.0.0.1", schemes=REACHABLE)


def with_address(command: F) -> F:
    """Give `command` the arguments ADDRESS and PORT, which it gets as one: `address`."""

    @functools.wraps(command)
    def with_both(*, address: str, port: str | None, **others: Any) -> Any:
        return command(address=read_address(address, port), **others)

    for name, required in (("port", False), ("address", True)):  # the last is applied first
        with_both = click.argument(name, required=required)(with_both)
    return with_both  # type: ignore[return-value]


def read_address(address: str, port: str | None) -> Address:
    """The address given as one word, or as two. Raises `UsageError`."""
    if port is None:
        return _parse(address)
    try:
        _parse(address)
    except UsageError:
        pass  # as it has to be: the port is still to come
    else:
        raise UsageError(f"{address} is all that is needed: what is {port!r} after it?")
    scheme, separator, host = address.rpartition("://")
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return _parse(f"{scheme}{separator}{host}:{port}")
