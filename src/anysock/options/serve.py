"""The options of a server, declared once.

Each field declares its meaning, its unit, its default and how a text becomes its value. The command
line, the environment variables, the keywords of `anysock.Server` and ``docs/options.md`` are all
made from these fields.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anysock import engines
from anysock.engines.base import Engine
from anysock.errors import UsageError
from anysock.net.addresses import FORMS, Address
from anysock.net.networks import Network
from anysock.net.receive_buffer import MAX_LINE
from anysock.options import values
from anysock.options.checks import check_together
from anysock.options.units import (
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)
from anysock.options.values import Option, flag, option

#: Minimum of the options `udp_rate` and `udp_total_rate`, in answers per second.
MIN_UDP_RATE = 0.001


def _duration(default: float | None, help: str, **more: Any) -> Any:
    return option(default, help, parse_duration, format=format_duration, metavar="SECONDS", **more)


def _bytes(
    default: int | None, help: str, parse: Callable[[Any], int] = values.positive_size, **more: Any
) -> Any:
    return option(default, help, parse, format=format_size, metavar="BYTES", **more)


def _rate(default: float | None, help: str, parse: Callable[[Any], float]) -> Any:
    return option(default, help, parse, format=format_rate, metavar="BYTES/S")


def _number(default: float, help: str, bounds: tuple[float, float], metavar: str = "N") -> Any:
    parse = values.number(*bounds)
    return option(default, help, parse, format="{:g}".format, metavar=metavar)


def _one_of(default: str, help: str, choices: Sequence[str], **more: Any) -> Any:
    told = dict.fromkeys(choices, "")
    return option(default, help, values.one_of(choices), choices=told, **more)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of `Server` and of ``anysock serve``.

    A value may be a text, as on the command line: ``drain_timeout="500ms"``,
    ``max_line="64KiB"``, ``bind="127.0.0.1:0"``. `host` and `port` become a `bind`, and are None
    then. Raises `UsageError` for a value that is not valid, and TypeError for an option that does
    not exist.
    """

    bind: str | Address | Sequence[str | Address] = option(
        ("127.0.0.1:8000",),
        f"Address to listen on: {FORMS} (?mode=660); fd://3 for a descriptor that listens "
        "already, systemd:// for the sockets of the systemd unit. Port 0 means any free port, no "
        "host means every address of the machine; a host name is bound at each of its addresses.",
        values.address,
        metavar="ADDRESS",
        short="-b",
        many=True,
        group="What to serve, and how",
    )
    # These two have no environment variable: for a service named anysock, Kubernetes sets
    # ANYSOCK_PORT=tcp://10.0.0.1:8000 in every container.
    port: int | None = option(
        None,
        "Port to listen on: short for --bind HOST:N. It can't be combined with --bind.",
        values.whole(0, 65535),
        metavar="N",
        short="-p",
        environment=False,
    )
    host: str | None = option(
        None,
        "Host name or IP address to listen on; 0.0.0.0 means every IPv4 address of the machine. "
        "Short for --bind HOST:PORT. Without one of the two, it is 127.0.0.1 or 8000.",
        values.host,
        metavar="HOST",
        environment=False,
    )
    engine: str | Engine = option(
        engines.DEFAULT,
        f"The I/O model: {', '.join(engines.ENGINES)}. See `anysock engines`.",
        values.engine,
        choices={name: entry.when_no_data for name, entry in engines.ENGINES.items()},
        metavar="NAME",
        short="-e",
    )
    workers: int = option(
        1,
        "Number of worker processes, each with its own engine, on one shared listening socket; "
        "auto means one for each processor. A supervisor replaces workers that die.",
        values.workers,
        choices={"auto": "one for each processor"},
        metavar="N",
    )
    recv_size: int | None = _bytes(
        None,
        "Maximum bytes of one receive. Unset, the size adapts to the traffic, up to 256 KiB.",
        values.system_size,
    )
    backlog: int = option(
        1024,
        "Maximum connections that wait in the kernel to be accepted; see listen(2).",
        values.whole(1, values.MAX_C_INT),
        metavar="N",
    )
    socket_buffer: int | None = _bytes(
        None,
        "SO_RCVBUF and SO_SNDBUF of each connection. Unset, the kernel sizes them; for bulk data "
        "over a fast network, 1MiB may double the throughput.",
        values.system_size,
    )
    prefix: str = option(
        "",
        "Handler lines: text to put before each line of the answer.",
        values.text,
        metavar="TEXT",
    )
    max_line: int = _bytes(
        MAX_LINE,
        "Handler lines: maximum length of a line, without its line ending; a longer line ends the "
        "connection.",
    )
    tls_cert: Sequence[str] | None = option(
        (),
        "Certificate of the tls:// addresses, and for handlers that start TLS themselves, followed "
        "by its intermediate certificates, in PEM. Of several, a client gets the first that is for "
        "the name that it asks for (SNI), or else the first.",
        values.path,
        metavar="FILE",
        many=True,
        group="TLS",
    )
    tls_key: Sequence[str] | None = option(
        (),
        "Private key of --tls-cert, not encrypted; of several, one for each, in the same order. "
        "Unset, it is read from the certificate's file.",
        values.path,
        metavar="FILE",
        many=True,
    )
    tls_client_ca: str | None = option(
        None,
        "Certificates of authorities, in PEM. Only clients with a certificate that one of them has "
        "signed are served (mutual TLS).",
        values.path,
        metavar="FILE",
    )
    tls_alpn: Sequence[str] = option(
        (),
        "Protocols to choose from in TLS (ALPN), the favourite first, separated by commas, such as "
        "h2,http/1.1. A client that offers only others is refused. Unset, none is chosen.",
        values.protocols,
        format=",".join,
        metavar="NAMES",
    )
    handshake_timeout: float = _duration(
        10.0,
        "Maximum time for the TLS handshake, together with the PROXY protocol header before it.",
    )
    proxy_protocol: str = _one_of(
        "off",
        "Whether each connection must begin with a header of the PROXY protocol, version 1 or 2, "
        "which names the real client. A header is never detected by guessing.",
        ("off", "required"),
        metavar="off|required",
        group="Behind a load balancer",
    )
    proxy_from: Sequence[Network] = option(
        (),
        "Network of the proxies; connections from elsewhere are closed.",
        values.network,
        metavar="NETWORK",
        many=True,
    )
    drain_timeout: float = _duration(
        10.0,
        "Maximum time from SIGTERM or SIGINT to the exit: --drain-delay, and then the time for "
        "connections to finish. Connections that are left then are aborted.",
    )
    drain_delay: float = _duration(
        0.0,
        "Time after SIGTERM or SIGINT during which /readyz fails but connections are still "
        "accepted, so that load balancers can notice. Part of --drain-timeout.",
    )
    reload_timeout: float = _duration(
        600.0,
        "With --workers: time that a worker replaced by SIGHUP has for its open connections, "
        "before it is drained.",
    )
    max_connections: int | None = option(
        None,
        "Maximum open connections of all workers together. Unset, the number of descriptors "
        "(ulimit -n) less a reserve.",
        values.whole(1),
        metavar="N",
        group="Limits",
    )
    overflow: str = _one_of(
        "wait",
        "What to do with connections beyond --max-connections or --accept-rate: let them wait in "
        "the backlog, or close them.",
        ("wait", "close"),
        metavar="wait|close",
    )
    per_source: int | None = option(
        None,
        "Maximum open connections of one source, which is an IPv4 address or an IPv6 /64 network; "
        "further ones are closed. Each worker counts its own: --workers 4 allows up to four times "
        "as many. Unset, only --max-connections limits them.",
        values.whole(1),
        metavar="N",
    )
    accept_rate: float | None = _number(
        20_000.0,
        "Maximum connections that each worker accepts per second: --workers 4 accepts up to four "
        "times as many.",
        (0.001, 1e9),
    )
    allow: Sequence[Network] = option(
        (),
        "Network of clients to serve; if any is given, all other clients are closed.",
        values.network,
        metavar="NETWORK",
        many=True,
    )
    deny: Sequence[Network] = option(
        (),
        "Network of clients to close, even if --allow includes them.",
        values.network,
        metavar="NETWORK",
        many=True,
    )
    idle_timeout: float = _duration(
        600.0,
        "Maximum time without a byte in either direction, then the connection is ended. 0 "
        "disables. All time limits are checked periodically, and may act up to a quarter later.",
    )
    write_timeout: float = _duration(
        30.0,
        "Maximum time in which the peer accepts none of the bytes that wait to be sent, then the "
        "connection is ended. 0 disables.",
    )
    min_rate: float = _rate(
        0.1,
        "Minimum average bytes per second, measured over --idle-timeout (1 minute if that is 0); "
        "slower connections are ended. 0 disables.",
        parse_rate,
    )
    max_lifetime: float = _duration(
        86_400.0, "Maximum time that a connection may last, then it is ended. 0 disables."
    )
    rate_limit: float | None = _rate(
        None,
        "Maximum bytes per second of one connection, in each direction. Unset, there is no limit.",
        values.positive_rate,
    )
    max_bytes: int | None = _bytes(
        None,
        "Maximum bytes of one connection in each direction; a connection with more is closed. "
        "Unset, there is no limit but --max-lifetime.",
    )
    max_memory: int | None = _bytes(
        None,
        "Maximum memory for the data of all connections: bytes received and not yet handled, and "
        "bytes that peers do not accept. Beyond it, the connections that hold most and move least "
        "are reset. Unset, half the memory of the machine or cgroup. 0 disables.",
        parse_size,
    )
    udp_rate: float = _number(
        1000.0,
        "Maximum UDP answers per second to one source, of all workers together.",
        (MIN_UDP_RATE, 1e9),
    )
    udp_total_rate: float = _number(
        20_000.0,
        "Maximum UDP answers per second to all sources, of all workers together.",
        (MIN_UDP_RATE, 1e9),
    )
    admin: Address | str | None = option(
        None,
        "Address of the HTTP endpoint with a live page for browsers, /healthz, /readyz, /metrics "
        "and /connections; :9000 means 127.0.0.1:9000.",
        values.admin_address,
        metavar="HOST:PORT",
        group="Monitoring and the log",
    )
    admin_write: bool = option(
        False,
        "Let whoever reaches the admin endpoint end connections and drain the server, from the "
        "live page as well.",
        values.switch,
        switch=True,
    )
    access_log: bool = option(
        True,
        "Log a line at the end of each connection: peer, how it ended, duration, bytes in and out.",
        values.switch,
        switch=True,
    )
    log_level: str = _one_of(
        "info",
        "Lowest level to log: debug, info, warning or error.",
        ("debug", "info", "warning", "error"),
        metavar="LEVEL",
    )
    log_format: str = _one_of(
        "text",
        "Format of the log lines on standard error: text or json.",
        ("text", "json"),
        metavar="FORMAT",
    )
    log_time: bool | None = option(
        None,
        "Begin each log line with the time; JSON lines always contain it. Unset, it is left out "
        "on a terminal, and in systemd's journal, which adds the time itself.",
        values.switch,
        switch=True,
    )
    verbose: bool = option(
        False,
        "Log each chunk of data that is received; implies --log-level debug.",
        values.switch,
        short="-v",
        switch=True,
    )
    slow_step: float = _duration(
        0.1,
        "Maximum time that one step of a handler, or one iteration of the event loop, may hold up "
        "all others; a longer one is logged with its stack. 0 disables. Engines "
        "polling, selector and uring only.",
    )
    trace: str | None = option(
        None,
        "File for a trace of what the server does, for `anysock trace view`: each step of the "
        "event loop (engines polling, selector, uring), and each connection. With --workers, each "
        "worker has its own, FILE.PID.",
        values.path,
        metavar="FILE",
    )
    trace_size: int = _bytes(
        2**26,
        "Maximum size of that file; what would be more is left out.",
        values.trace_size,
    )
    production: bool = option(
        False,
        "Leave out what helps only developers: implies --slow-step 0, and each connection is "
        "logged only at its end.",
        values.switch,
        switch=True,
    )
    delay: float = _duration(
        0.0, "Time by which everything sent is delayed.", group="Faults on purpose, to test clients"
    )
    jitter: float = _duration(0.0, "Random variation added to or taken from --delay.")
    throttle: float | None = _rate(
        None,
        "Maximum bytes per second that are sent on each connection.",
        values.positive_rate,
    )
    slice: int | None = _bytes(None, "Maximum bytes of one send; more is sent in several pieces.")
    reset_after: int | None = _bytes(
        None,
        "Number of sent bytes after which the connection is reset; 0 resets it instead of the "
        "first answer.",
        parse_size,
    )
    close_after: int | None = _bytes(
        None,
        "Number of sent bytes after which the connection is closed in good order; 0 closes it "
        "instead of the first answer.",
        parse_size,
    )
    corrupt: float = _number(
        0.0,
        "Share of the sends in which one byte is changed: 0 is none, 1 is all.",
        (0, 1),
        metavar="RATE",
    )
    half_open: float = _number(
        0.0,
        "Share of the connections that stay open but are never answered: 0 is none, 1 is all.",
        (0, 1),
        metavar="RATE",
    )
    seed: int | None = option(
        None,
        "Seed of the random faults: the same seed repeats the same faults.",
        values.whole(0),
        metavar="N",
    )
    fail_on: str | None = option(
        None,
        "Line of a client at which the handler raises an error, to try error handling.",
        values.text,
        metavar="TEXT",
    )

    def __post_init__(self) -> None:
        given_bind = self.bind
        usual = _parsed_defaults()
        for name, default in DEFAULTS.items():
            given = getattr(self, name)
            value = usual[name] if given is default else _parsed(name, given)
            if value is not given:
                object.__setattr__(self, name, value)
        self._bind_host_and_port(given_bind is not DEFAULTS["bind"])
        if self.production:
            object.__setattr__(self, "slow_step", 0.0)
        if self.verbose:  # chunks are logged at level debug
            object.__setattr__(self, "log_level", "debug")
        check_together(self)

    def _bind_host_and_port(self, bind_is_given: bool) -> None:
        names = [name for name in ("host", "port") if getattr(self, name) is not None]
        if not names:
            return
        if bind_is_given:
            raise UsageError(
                f"{flag(names[0])}: --bind includes host and port; give either --bind, or --host "
                "and --port"
            )
        [usual] = self.addresses
        host = usual.host if self.host is None else self.host
        port = usual.port if self.port is None else self.port
        object.__setattr__(self, "bind", (Address(host, port),))
        for name in names:  # from here on, `bind` alone says where to listen
            object.__setattr__(self, name, None)

    @property
    def addresses(self) -> Sequence[Address]:
        """`bind`, parsed."""
        return self.bind  # type: ignore[return-value]


def _parsed(name: str, given: Any) -> Any:
    """The value of the option `name`. Raises `UsageError`, which names it."""
    if given is None and name in OPTIONAL:
        return None
    spec = OPTIONS[name]
    try:
        if not spec.many:
            return spec.parse(given)
        several = list(given) if isinstance(given, list | tuple) else [given]
        value = tuple(spec.parse(item) for item in several)
        if not value and DEFAULTS[name]:
            raise UsageError("expected at least one value")
        return value
    except UsageError as error:
        raise UsageError(f"{flag(name)}: {error}") from None


@functools.cache
def _parsed_defaults() -> dict[str, Any]:
    return {name: _parsed(name, default) for name, default in DEFAULTS.items()}


OPTIONS: dict[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(ServeOptions)
}
#: The names of the options that may be None.
OPTIONAL = frozenset(
    field.name for field in dataclasses.fields(ServeOptions) if str(field.type).endswith("None")
)
DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(ServeOptions)}
