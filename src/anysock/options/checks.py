"""Which options contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from anysock.engines.base import Engine
from anysock.errors import UsageError
from anysock.net.addresses import Address
from anysock.net.networks import Network
from anysock.options.units import format_duration, format_rate
from anysock.options.values import flag


class Options(Protocol):
    """The options that are checked here."""

    @property
    def addresses(self) -> Sequence[Address]: ...
    @property
    def drain_delay(self) -> float: ...
    @property
    def drain_timeout(self) -> float: ...
    @property
    def engine(self) -> str | Engine: ...
    @property
    def min_rate(self) -> float: ...
    @property
    def proxy_from(self) -> Sequence[Network]: ...
    @property
    def proxy_protocol(self) -> str: ...
    @property
    def rate_limit(self) -> float | None: ...
    @property
    def tls_alpn(self) -> Sequence[str]: ...
    @property
    def tls_cert(self) -> Sequence[str] | None: ...
    @property
    def tls_client_ca(self) -> str | None: ...
    @property
    def tls_key(self) -> Sequence[str] | None: ...
    @property
    def workers(self) -> int: ...


def check_together(options: Options) -> None:
    """Raises `UsageError` for options that contradict each other."""
    if options.drain_delay and options.drain_delay >= options.drain_timeout:
        raise UsageError(
            f"--drain-delay: {format_duration(options.drain_delay)} must be less than "
            f"--drain-timeout, {format_duration(options.drain_timeout)}, which includes it"
        )
    if options.rate_limit is not None and options.min_rate >= options.rate_limit:
        raise UsageError(
            f"--min-rate: {format_rate(options.min_rate)} a second must be less than --rate-limit, "
            f"{format_rate(options.rate_limit)}, or every connection would be too slow"
        )
    if options.workers > 1 and not isinstance(options.engine, str):
        raise UsageError("--engine: each of several workers makes its own: give the name of one")
    _check_tls(options)
    if options.proxy_from and options.proxy_protocol == "off":
        raise UsageError("--proxy-from: it has no effect without --proxy-protocol required")
    if options.proxy_protocol == "required" and any(a.kind == "udp" for a in options.addresses):
        raise UsageError(
            "--proxy-protocol: datagrams carry no header; serve the udp:// address with a server "
            "of its own"
        )
    networked = any(address.kind != "unix" for address in options.addresses)
    if options.proxy_protocol == "required" and not options.proxy_from and networked:
        raise UsageError(
            "--proxy-from: give the networks of the proxies; any host in them can claim any "
            "client address"
        )


def _check_tls(options: Options) -> None:
    if options.tls_cert:
        if options.tls_key and len(options.tls_key) != len(options.tls_cert):
            raise UsageError(
                "--tls-key: give one for each --tls-cert, in the same order; or none, and the keys "
                "in the files of the certificates"
            )
        return
    if any(address.tls for address in options.addresses):
        raise UsageError("--tls-cert: a tls:// address needs a certificate")
    for name in ("tls_key", "tls_client_ca", "tls_alpn"):
        if getattr(options, name):
            raise UsageError(f"{flag(name)}: it has no effect without --tls-cert")


def check_tls_is_spoken(options: Options) -> None:
    """For a handler that can't start TLS itself. Raises `UsageError` when there is a certificate,
    and no address that uses it: an operator who asks for TLS must not get a server in plain text,
    open to everybody."""
    if options.tls_cert and not any(address.tls for address in options.addresses):
        raise UsageError("--tls-cert: no --bind address uses TLS; give one, such as tls://:8443")
