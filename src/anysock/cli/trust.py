"""The clients' options for TLS: which certificates to trust, and our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from anysock.cli.values import INPUT_FILE
from anysock.errors import UsageError
from anysock.net.addresses import Address

if TYPE_CHECKING:
    import ssl

F = TypeVar("F", bound=Callable[..., Any])


def with_trust(command: F) -> F:
    """Give `command` the options of `client_context`, as keywords of the same names."""
    # The last is applied first, so that --help has them in this order.
    for decorate in reversed(
        (
            click.option(
                "--tls-ca",
                type=INPUT_FILE,
                metavar="FILE",
                help="tls://: trust only certificates of the authorities in this PEM file.",
            ),
            click.option(
                "--insecure", is_flag=True, help="tls://: trust any certificate. For tests."
            ),
            click.option(
                "--tls-cert",
                type=INPUT_FILE,
                metavar="FILE",
                help="tls://: our own certificate (PEM), for a server that requires one.",
            ),
            click.option("--tls-key", type=INPUT_FILE, metavar="FILE", help="Its private key."),
        )
    ):
        command = decorate(command)
    return command


def trusted(
    address: Address,
    tls_ca: str | None = None,
    insecure: bool = False,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> ssl.SSLContext | None:
    """What these options mean for `address`. Raises `UsageError` where there is no TLS."""
    if address.tls:
        from anysock.net.certificates import client_context

        return client_context(tls_ca, insecure, tls_cert, tls_key)
    if tls_ca or insecure or tls_cert or tls_key:
        raise UsageError(f"the options of TLS are for tls:// addresses, and {address} is none")
    return None
