"""The options of a server, declared once.

Each field says what it means, its unit, its default and how text becomes its value. The command
line, the environment variables, the keywords of `anysock.Server` and ``docs/options.md`` are all
made from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from anysock import engines
from anysock.connection import MAX_LINE
from anysock.errors import UsageError
from anysock.net.addresses import Address
from anysock.units import format_duration, format_size, parse_duration, parse_size


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
    #: Whether it can be given several times.
    many: bool = False
    #: Whether it is a switch, without a value.
    switch: bool = False


def _option(default: Any, help: str, parse: Callable[[Any], Any], **more: Any) -> Any:
    spec = Option(help, parse, **more)
    return dataclasses.field(default=default, metadata={"option": spec})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"expected a text, not {value!r}")
    return value


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"expected True or False, not {value!r}")
    return value


def _whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            number = int(value)
        except (TypeError, ValueError):
            raise UsageError(f"expected a whole number, not {value!r}") from None
        if number < least:
            raise UsageError(f"expected at least {least}, not {number}")
        return number

    return parse


def _size(value: Any) -> int:
    size = parse_size(value)
    if size < 1:
        raise UsageError(f"expected at least 1 byte, not {value!r}")
    return size


def _one_of(choices: Iterable[str]) -> Callable[[Any], str]:
    known = tuple(choices)

    def parse(value: Any) -> str:
        if value not in known:
            raise UsageError(f"expected one of {', '.join(known)}, not {value!r}")
        return str(value)

    return parse


def _engine(value: Any) -> str:
    if value not in engines.ENGINES:
        raise UsageError(f"unknown engine {value!r}: choose one of {', '.join(engines.ENGINES)}")
    return str(value)


def _address(value: Any) -> Address:
    return value if isinstance(value, Address) else Address.parse(value)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The options of `Server` and of ``anysock serve``.

    Values may be given as text, as on the command line: ``drain_timeout="500ms"``,
    ``max_line="64KiB"``, ``bind="127.0.0.1:0"``. Raises `UsageError` for a value that makes no
    sense, and TypeError for an option that does not exist.
    """

    bind: str | Address | Sequence[str | Address] = _option(
        ("127.0.0.1:8000",),
        "Where to listen: host:port, [v6]:port or tcp://host:port. Port 0 takes a free one, "
        "no host means all addresses of the machine, and a name that has several binds all.",
        _address,
        metavar="ADDRESS",
        short="-b",
        many=True,
    )
    engine: str = _option(
        engines.DEFAULT,
        f"The I/O model: {', '.join(engines.ENGINES)}. See `anysock engines`.",
        _engine,
        metavar="NAME",
        short="-e",
    )
    recv_size: int | None = _option(
        None,
        "How much to receive at once, at most. Unset, it suits the traffic, up to 256 KiB.",
        _size,
        format=format_size,
        metavar="BYTES",
    )
    backlog: int = _option(
        1024,
        "How many connections the operating system may keep waiting for us, listen(2).",
        _whole(1),
        metavar="N",
    )
    socket_buffer: int | None = _option(
        None,
        "SO_RCVBUF and SO_SNDBUF of each connection. Unset, the operating system lets them grow; "
        "for bulk data over a fast network, 1MiB may double the throughput.",
        _size,
        format=format_size,
        metavar="BYTES",
    )
    idle_timeout: float | None = _option(
        None,
        "End a connection on which nothing has moved for so long. Unset, it may stay for ever. "
        "Looked at now and then, so it may take an eighth longer. Not under blocking.",
        parse_duration,
        format=format_duration,
        metavar="SECONDS",
    )
    drain_timeout: float = _option(
        10.0,
        "How long connections may take to finish, all together, after SIGTERM or SIGINT.",
        parse_duration,
        format=format_duration,
        metavar="SECONDS",
    )
    fail_on: str | None = _option(
        None,
        "Let the handler fail when a client sends a line equal to this, to try error handling.",
        _text,
        metavar="TEXT",
    )
    prefix: str = _option(
        "",
        "lines: what to put before each line that is answered.",
        _text,
        metavar="TEXT",
    )
    max_line: int = _option(
        MAX_LINE,
        "lines: the longest line, without its line ending; a longer one ends the connection.",
        _size,
        format=format_size,
        metavar="BYTES",
    )
    slow_step: float = _option(
        0.1,
        "Warn, with its stack, when one step of a handler holds up all others for longer. 0 never "
        "does. Under polling and selector.",
        parse_duration,
        format=format_duration,
        metavar="SECONDS",
    )
    production: bool = _option(
        False,
        "Leave out what helps developers only: implies --slow-step 0.",
        _switch,
        switch=True,
    )
    log_level: str = _option(
        "info",
        "The least level that is logged: debug, info, warning or error.",
        _one_of(("debug", "info", "warning", "error")),
        metavar="LEVEL",
    )
    log_format: str = _option(
        "text",
        "How log lines are written to standard error: text or json.",
        _one_of(("text", "json")),
        metavar="FORMAT",
    )
    verbose: bool = _option(
        False,
        "Log each chunk that comes in; implies --log-level debug.",
        _switch,
        short="-v",
        switch=True,
    )

    def __post_init__(self) -> None:
        for name, spec in OPTIONS.items():
            given = getattr(self, name)
            if given is None:
                continue
            try:
                if spec.many:
                    several = [given] if isinstance(given, str | Address) else list(given)
                    value: Any = tuple(spec.parse(item) for item in several)
                    if not value:
                        raise UsageError("expected at least one")
                else:
                    value = spec.parse(given)
            except UsageError as error:
                raise UsageError(f"{flag(name)}: {error}") from None
            object.__setattr__(self, name, value)
        if self.production:
            object.__setattr__(self, "slow_step", 0.0)
        if self.idle_timeout == 0:
            raise UsageError("--idle-timeout: expected more than 0")
        if self.verbose:  # the chunks are logged at that level
            object.__setattr__(self, "log_level", "debug")

    @property
    def addresses(self) -> Sequence[Address]:
        """`bind`, parsed."""
        return self.bind  # type: ignore[return-value]


OPTIONS: dict[str, Option] = {
    field.name: field.metadata["option"] for field in dataclasses.fields(ServeOptions)
}
DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(ServeOptions)}


def flag(name: str) -> str:
    """The option's name on the command line: ``drain_timeout`` is ``--drain-timeout``."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The option's environment variable: ``drain_timeout`` is ``ANYSOCK_DRAIN_TIMEOUT``."""
    return "ANYSOCK_" + name.upper()


def default_text(name: str) -> str:
    """The default as it would be written on the command line; empty where there is none."""
    default, spec = DEFAULTS[name], OPTIONS[name]
    if default is None or spec.switch:
        return ""
    return " ".join(default) if spec.many else spec.format(default)


def reference() -> str:
    """``docs/options.md``: the table of all options, in Markdown."""
    rows = [
        "# Options of `anysock serve`",
        "",
        "Made from the declarations in `src/anysock/options.py` by `make docs/options.md`.",
        "Durations take `us`, `ms`, `s`, `m`, `h`: `500ms`; a bare number is seconds.",
        "Sizes take `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`: `64KiB`; a bare number is bytes.",
        "",
        "| command line | environment | keyword | default | meaning |",
        "|---|---|---|---|---|",
    ]
    for name, spec in OPTIONS.items():
        flags = ", ".join(f"`{each}`" for each in (spec.short, flag(name)) if each)
        value = f" {spec.metavar}" if spec.metavar else ""
        default = f"`{default_text(name)}`" if default_text(name) else ""
        meaning = spec.help.replace("|", "\\|") + (" Repeatable." if spec.many else "")
        rows.append(f"| {flags}{value} | `{variable(name)}` | `{name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"
