"""The clients' options for the PROXY protocol."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from anysock.errors import UsageError
from anysock.net.addresses import Address

F = TypeVar("F", bound=Callable[..., Any])


def with_proxy_header(command: F) -> F:
    """Give `command` the options ``--send-proxy`` and ``--send-proxy-v2``, which it gets as one:
    `send_proxy`, the version of the header, or None."""

    @functools.wraps(command)
    def with_version(
        *, address: Address, send_proxy: bool, send_proxy_v2: bool, **others: Any
    ) -> Any:
        if send_proxy and send_proxy_v2:
            raise UsageError("--send-proxy or --send-proxy-v2: a connection has one header")
        version = 1 if send_proxy else 2 if send_proxy_v2 else None
        if version and address.kind == "udp":
            raise UsageError("--send-proxy: datagrams carry no PROXY header")
        return command(address=address, send_proxy=version, **others)

    for version in (2, 1):  # the last is applied first
        with_version = click.option(
            "--send-proxy-v2" if version == 2 else "--send-proxy",
            is_flag=True,
            help=f"Begin each connection with a header of the PROXY protocol, version {version}, "
            "as a proxy does: with our own addresses.",
        )(with_version)
    return with_version  # type: ignore[return-value]
