"""The options of a server as keywords of `serve` and `Server`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from anysock.engines.base import Engine
from anysock.errors import WrongType
from anysock.net.addresses import Address
from anysock.net.networks import Network
from anysock.options.serve import ServeOptions


class ServeKeywords(TypedDict, total=False):
    """The keywords of `ServeOptions`, for type checkers: each option has its own type, or is the
    text that the command line takes. A test compares the two."""

    bind: str | Address | Sequence[str | Address]
    port: int | str | None
    host: str | None
    engine: str | Engine
    workers: int | str
    recv_size: int | str | None
    backlog: int | str
    socket_buffer: int | str | None
    prefix: str
    max_line: int | str
    tls_cert: str | Path | Sequence[str | Path] | None
    tls_key: str | Path | Sequence[str | Path] | None
    tls_client_ca: str | Path | None
    tls_alpn: str | Sequence[str]
    handshake_timeout: float | str
    proxy_protocol: str
    proxy_from: str | Network | Sequence[str | Network]
    drain_timeout: float | str
    drain_delay: float | str
    reload_timeout: float | str
    max_connections: int | str | None
    overflow: str
    per_source: int | str | None
    accept_rate: float | str | None
    allow: str | Network | Sequence[str | Network]
    deny: str | Network | Sequence[str | Network]
    idle_timeout: float | str
    write_timeout: float | str
    min_rate: float | str
    max_lifetime: float | str
    rate_limit: float | str | None
    max_bytes: int | str | None
    max_memory: int | str | None
    udp_rate: float | str
    udp_total_rate: float | str
    admin: Address | str | int | None
    admin_write: bool
    access_log: bool
    log_level: str
    log_format: str
    log_time: bool | None
    verbose: bool
    slow_step: float | str
    trace: str | None
    trace_size: int | str
    production: bool
    delay: float | str
    jitter: float | str
    throttle: float | str | None
    slice: int | str | None
    reset_after: int | str | None
    close_after: int | str | None
    corrupt: float | str
    half_open: float | str
    seed: int | str | None
    fail_on: str | None


def options_of(options: ServeOptions | None, keywords: Mapping[str, Any]) -> ServeOptions:
    """The options, from either `options` or `keywords`. Raises TypeError if both are given, and
    the errors of `ServeOptions`."""
    if options is None:
        return ServeOptions(**keywords)
    if not isinstance(options, ServeOptions):
        raise WrongType(f"options= takes ServeOptions, or give them as keywords; not {options!r}")
    if keywords:
        raise TypeError("give ServeOptions or keywords, not both")
    return options
