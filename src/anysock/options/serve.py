"""The options of a server, declared once.

Each field says what it means, its unit, its default and how text becomes its value. The command
line, the environment variables, the keywords of `anysock.Server` and ``docs/options.md`` are all
made from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anysock import engines
from anysock.engines.base import Engine
from anysock.errors import UsageError
from anysock.net.addresses import FORMS, Address
from anysock.net.lines import MAX_LINE
from anysock.net.networks import Network
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

#: The options `udp_rate` and `udp_total_rate` are no less than this.
LEAST_UDP_RATE = 0.001


def _duration(default: float | None, help: str, **more: Any) -> Any:
    return option(default, help, parse_duration, format=format_duration, metavar="SECONDS", **more)


def _bytes(
    default: int | None, help: str, parse: Callable[[Any], int] = values.size, **more: Any
) -> Any:
    return option(default, help, parse, format=format_size, metavar="BYTES", **more)


def _one_of(default: str, help: str, choices: Sequence[str], **more: Any) -> Any:
    told = dict.fromkeys(choices, "")
    return option(default, help, values.one_of(choices), choices=told, **more)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of `Server` and of ``anysock serve``.

    Values may be given as text, as on the command line: ``drain_timeout="500ms"``,
    ``max_line="64KiB"``, ``bind="127.0.0.1:0"``. Raises `UsageError` for a value that makes no
    sense, and TypeError for an option that does not exist. `host` and `port` become a `bind`, and
    are None then.
    """

    bind: str | Address | Sequence[str | Address] = option(
        ("127.0.0.1:8000",),
        f"Where to listen: {FORMS} (?mode=660); fd://3 is a descriptor that listens, systemd:// "
        "what systemd hands over. Port 0 takes a free one, no host means all addresses of the "
        "machine, and a name that has several binds all.",
        values.address,
        metavar="ADDRESS",
        short="-b",
        many=True,
        group="What to serve, and how",
    )
    # No environment gives these two: for a service that is called anysock, Kubernetes sets
    # ANYSOCK_PORT=tcp://10.0.0.1:8000 in every container.
    port: int | None = option(
        None,
        "Listen on this port of --host: short for --bind HOST:N, and not beside it.",
        values.whole(0, 65535),
        metavar="N",
        short="-p",
        environment=False,
    )
    host: str | None = option(
        None,
        "Listen on this host, by its name or an IP address, and on --port: short for --bind. "
        "0.0.0.0 is all of IPv4. Unset, it is 127.0.0.1 (and --port 8000).",
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
        "How many processes serve, each with an engine of its own, on one shared listening socket; "
        "auto: one a processor. A supervisor replaces those that die.",
        values.workers,
        choices={"auto": "one a processor"},
        metavar="N",
    )
    recv_size: int | None = _bytes(
        None,
        "How much to receive at once, at most. Unset, it suits the traffic, up to 256 KiB.",
        values.system_size,
    )
    backlog: int = option(
        1024,
        "How many connections the operating system may keep waiting for us, listen(2).",
        values.whole(1, values.MOST_OF_AN_INT),
        metavar="N",
    )
    socket_buffer: int | None = _bytes(
        None,
        "SO_RCVBUF and SO_SNDBUF of each connection. Unset, the operating system lets them grow; "
        "for bulk data over a fast network, 1MiB may double the throughput.",
        values.system_size,
    )
    prefix: str = option(
        "",
        "lines: what to put before each line that is answered.",
        values.text,
        metavar="TEXT",
    )
    max_line: int = _bytes(
        MAX_LINE,
        "lines: the longest line, without its line ending; a longer one ends the connection.",
    )
    tls_cert: str | None = option(
        None,
        "The certificate of tls:// addresses, with those that lead to its authority: PEM.",
        values.path,
        metavar="FILE",
        group="TLS",
    )
    tls_key: str | None = option(
        None,
        "Its private key, not encrypted. Unset, it is in the file of the certificate.",
        values.path,
        metavar="FILE",
    )
    tls_client_ca: str | None = option(
        None,
        "Take only clients with a certificate of one of these authorities (mutual TLS).",
        values.path,
        metavar="FILE",
    )
    handshake_timeout: float = _duration(
        10.0,
        "How long the handshake of TLS, and the header of the PROXY protocol before it, may take.",
    )
    proxy_protocol: str = _one_of(
        "off",
        "required: each connection begins with a header of the PROXY protocol, version 1 or 2, "
        "which names the real client. It is never guessed.",
        ("off", "required"),
        metavar="off|required",
        group="Behind a load balancer",
    )
    proxy_from: Sequence[Network] = option(
        (),
        "The networks of the proxies. Whoever else connects is closed.",
        values.network,
        metavar="NETWORK",
        many=True,
    )
    drain_timeout: float = _duration(
        10.0,
        "How long everything may take after SIGTERM or SIGINT: the delay, and then connections to "
        "finish, all together.",
    )
    drain_delay: float = _duration(
        0.0,
        "After SIGTERM or SIGINT, be not ready (/readyz), but go on accepting for so long: until "
        "load balancers have noticed. Part of --drain-timeout.",
    )
    reload_timeout: float = _duration(
        600.0,
        "With --workers: how long those that SIGHUP replaces may go on with their connections, "
        "before they are drained.",
    )
    max_connections: int | None = option(
        None,
        "The most connections at once, of all workers together. Unset, as many as there are "
        "descriptors for (ulimit -n), less some to spare.",
        values.whole(1),
        metavar="N",
        group="Limits",
    )
    overflow: str = _one_of(
        "wait",
        "What happens to clients beyond --max-connections or --accept-rate: wait in the backlog, "
        "or close them.",
        ("wait", "close"),
        metavar="wait|close",
    )
    per_source: int | None = option(
        None,
        "The most connections of one source: an IPv4 address, or an IPv6 network of 64 bits. More "
        "are closed. Each worker counts its own: --workers 4 lets in up to four times as many. "
        "Unset, as many as of all.",
        values.whole(1),
        metavar="N",
    )
    accept_rate: float | None = option(
        20_000.0,
        "The most connections accepted a second, by each worker: --workers 4 accepts up to four "
        "times as many.",
        values.number(0.001, 1e9),
        format="{:g}".format,
        metavar="N",
    )
    allow: Sequence[Network] = option(
        (),
        "Serve clients of these networks only; others are closed.",
        values.network,
        metavar="NETWORK",
        many=True,
    )
    deny: Sequence[Network] = option(
        (),
        "Close clients of these networks, even if they are allowed.",
        values.network,
        metavar="NETWORK",
        many=True,
    )
    idle_timeout: float = _duration(
        600.0,
        "End a connection on which nothing has moved for so long; 0 never does. Like all limits of "
        "time it is looked at now and then, so it may take an eighth longer.",
    )
    write_timeout: float = _duration(
        30.0,
        "End a connection whose peer has taken nothing of what is sent to it for so long; 0 never.",
    )
    min_rate: float = option(
        0.1,
        "End a connection that moves less a second, over a time of --idle-timeout (1 minute if "
        "that is 0): who sends a byte now and then is not idle, but keeps a place. 0 never does.",
        parse_rate,
        format=format_rate,
        metavar="BYTES/S",
    )
    max_lifetime: float = _duration(86_400.0, "End a connection after so long; 0 never does.")
    rate_limit: float | None = option(
        None,
        "The most that a connection moves a second, each way. Unset, as much as it can.",
        values.some_rate,
        format=format_rate,
        metavar="BYTES/S",
    )
    max_bytes: int | None = _bytes(
        None,
        "The most that a connection moves, each way; one that would move more is closed. Unset, "
        "--max-lifetime bounds it.",
    )
    max_memory: int | None = _bytes(
        None,
        "The most that all connections may hold in memory, as far as the server knows: what has "
        "come, and what their peers do not take. Beyond it, those are reset that hold most and "
        "move least. Unset, half of the memory of the machine, or of the cgroup; 0: no limit.",
        values.some_size,
    )
    udp_rate: float = option(
        1000.0,
        "udp://: the most answers a second to one source, of all workers together.",
        values.number(LEAST_UDP_RATE, 1e9),
        format="{:g}".format,
        metavar="N",
    )
    udp_total_rate: float = option(
        20_000.0,
        "udp://: the most answers a second to all, of all workers together.",
        values.number(LEAST_UDP_RATE, 1e9),
        format="{:g}".format,
        metavar="N",
    )
    admin: Address | str | None = option(
        None,
        "Where /healthz, /readyz, /metrics and /connections are served; :9000 is 127.0.0.1:9000.",
        values.admin_address,
        metavar="HOST:PORT",
        group="Watching it",
    )
    access_log: bool = option(
        True,
        "Log each connection that was served, at its end: peer, how it ended, duration, bytes in "
        "and out.",
        values.switch,
        switch=True,
    )
    log_level: str = _one_of(
        "info",
        "The least level that is logged: debug, info, warning or error.",
        ("debug", "info", "warning", "error"),
        metavar="LEVEL",
    )
    log_format: str = _one_of(
        "text",
        "How log lines are written to standard error: text or json.",
        ("text", "json"),
        metavar="FORMAT",
    )
    log_time: bool | None = option(
        None,
        "Begin each log line of text with the time (JSON always has it). Unset, it does unless "
        "standard error is a terminal, or systemd's journal, which notes the time itself.",
        values.switch,
        switch=True,
    )
    verbose: bool = option(
        False,
        "Log each chunk that comes in; implies --log-level debug.",
        values.switch,
        short="-v",
        switch=True,
    )
    slow_step: float = _duration(
        0.1,
        "Warn, with its stack, when one step of a handler, or one turn of the loop with many "
        "steps, holds up all others for longer. 0 never does. Under polling and selector.",
    )
    production: bool = option(
        False,
        "Leave out what helps developers only: implies --slow-step 0, and connections are logged "
        "at their end only.",
        values.switch,
        switch=True,
    )
    delay: float = _duration(
        0.0, "Send everything so much later.", group="Faults on purpose, to test clients"
    )
    jitter: float = _duration(0.0, "With --delay: more or less of it, by up to so much.")
    throttle: float | None = option(
        None,
        "Send no faster than that.",
        values.some_rate,
        format=format_rate,
        metavar="BYTES/S",
    )
    slice: int | None = _bytes(None, "Send in pieces of at most so many bytes.")
    reset_after: int | None = option(
        None,
        "Reset the connection after so many bytes sent; 0: instead of the first answer.",
        parse_size,
        format=format_size,
        metavar="BYTES",
    )
    close_after: int | None = option(
        None,
        "Close it, in good order, after so many bytes sent; 0: instead of the first answer.",
        parse_size,
        format=format_size,
        metavar="BYTES",
    )
    corrupt: float = option(
        0.0,
        "Change a byte in this share of what is sent: 0 is never, 1 is each time.",
        values.number(0, 1),
        format="{:g}".format,
        metavar="RATE",
    )
    half_open: float = option(
        0.0,
        "Let this share of the connections go dead: they stay open, and nothing is answered.",
        values.number(0, 1),
        format="{:g}".format,
        metavar="RATE",
    )
    seed: int | None = option(
        None,
        "Let the faults that chance decides be the same as in the last run with that seed.",
        values.whole(0),
        metavar="N",
    )
    fail_on: str | None = option(
        None,
        "Let the handler fail when a client sends a line equal to this, to try error handling.",
        values.text,
        metavar="TEXT",
    )

    def __post_init__(self) -> None:
        given_bind = self.bind
        for name, spec in OPTIONS.items():
            given = getattr(self, name)
            if given is None and name in OPTIONAL:
                continue
            try:
                if spec.many:
                    several = list(given) if isinstance(given, list | tuple) else [given]
                    value: Any = tuple(spec.parse(item) for item in several)
                    if not value and DEFAULTS[name]:
                        raise UsageError("expected at least one")
                else:
                    value = spec.parse(given)
            except UsageError as error:
                raise UsageError(f"{flag(name)}: {error}") from None
            object.__setattr__(self, name, value)
        self._bind_host_and_port(given_bind is not DEFAULTS["bind"])
        if self.production:
            object.__setattr__(self, "slow_step", 0.0)
        if self.verbose:  # the chunks are logged at that level
            object.__setattr__(self, "log_level", "debug")
        check_together(self)

    def _bind_host_and_port(self, bind_is_given: bool) -> None:
        names = [name for name in ("host", "port") if getattr(self, name) is not None]
        if not names:
            return
        if bind_is_given:
            raise UsageError(
                f"{flag(names[0])}: --bind says all of where to listen; give that alone, or "
                "--host and --port"
            )
        [usual] = self.addresses
        host = usual.host if self.host is None else self.host
        port = usual.port if self.port is None else self.port
        object.__setattr__(self, "bind", (Address(host, port),))
        for name in names:  # from here on there is one truth
            object.__setattr__(self, name, None)

    @property
    def addresses(self) -> Sequence[Address]:
        """`bind`, parsed."""
        return self.bind  # type: ignore[return-value]


OPTIONS: dict[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(ServeOptions)
}
#: Those that may be None.
OPTIONAL = frozenset(
    field.name for field in dataclasses.fields(ServeOptions) if str(field.type).endswith("None")
)
DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(ServeOptions)}
