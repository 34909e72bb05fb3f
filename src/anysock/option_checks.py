"""Which options make no sense together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anysock.errors import UsageError
from anysock.option_values import flag
from anysock.units import format_duration, format_rate

if TYPE_CHECKING:
    from anysock.options import ServeOptions


def check_together(options: ServeOptions) -> None:
    """Raises `UsageError` for what makes no sense together."""
    if options.drain_delay and options.drain_delay >= options.drain_timeout:
        raise UsageError(
            f"--drain-delay: {format_duration(options.drain_delay)} leaves nothing of "
            f"--drain-timeout, {format_duration(options.drain_timeout)}, which is for both"
        )
    if options.rate_limit is not None and options.min_rate >= options.rate_limit:
        raise UsageError(
            f"--min-rate: {format_rate(options.min_rate)} a second is not less than --rate-limit, "
            f"{format_rate(options.rate_limit)}, so that every connection would be too slow"
        )
    _check_tls(options)
    if options.proxy_from and options.proxy_protocol == "off":
        raise UsageError(
            "--proxy-from: without --proxy-protocol required, nobody is taken for a proxy"
        )
    if options.proxy_protocol == "required" and any(a.kind == "udp" for a in options.addresses):
        raise UsageError(
            "--proxy-protocol: it is for connections; a udp:// address, which would go "
            "without, needs a server of its own"
        )
    networked = any(address.kind != "unix" for address in options.addresses)
    if options.proxy_protocol == "required" and not options.proxy_from and networked:
        raise UsageError(
            "--proxy-from: say which networks the proxies are in; whoever can connect from "
            "there can claim to be anyone"
        )


def _check_tls(options: ServeOptions) -> None:
    if any(address.tls for address in options.addresses):
        if options.tls_cert is None:
            raise UsageError("--tls-cert: a tls:// address needs a certificate")
        return
    # Whoever asks for it must not be left with plain text, and everybody let in.
    for name in ("tls_cert", "tls_key", "tls_client_ca"):
        if getattr(options, name) is not None:
            raise UsageError(
                f"{flag(name)}: no address is for TLS; --bind one, such as tls://:8443"
            )
