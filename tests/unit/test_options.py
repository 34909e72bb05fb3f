"""Options are declared once: command line, environment, keywords and reference agree."""

from __future__ import annotations

import dataclasses
import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import click
import pytest

from anysock.cli.options import with_options
from anysock.errors import UsageError
from anysock.net.addresses import Address
from anysock.options.serve import OPTIONS, ServeOptions
from anysock.options.texts import default_text, reference, switches, variable
from anysock.options.values import flag


def from_command_line(*arguments: str, **environment: str) -> ServeOptions:
    """What the command line makes of `arguments`."""
    made: list[ServeOptions] = []

    @click.command()
    @with_options
    def command(**keywords):
        made.append(ServeOptions(**keywords))

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(variable("log_time"))  # conftest.py has put it there
        # As click reads it: os.environ takes no NUL and no lone surrogate, and so tests less.
        patch.setattr("os.environ", os.environ.copy() | environment)
        try:
            command.main(arguments, standalone_mode=False)
        except click.ClickException as error:
            raise UsageError(error.format_message()) from None
    return made[0]


# For each option: as text, and what it means.
GIVEN: dict[str, tuple[Any, Any]] = {
    "bind": ("[::1]:0", (Address("::1", 0),)),
    "engine": ("threads", "threads"),
    "workers": ("2", 2),
    "recv_size": ("2KiB", 2048),
    "backlog": ("5", 5),
    "socket_buffer": ("1MiB", 1 << 20),
    "tls_cert": ("cert.pem", ("cert.pem",)),
    "tls_key": ("key.pem", ("key.pem",)),
    "tls_alpn": ("h2,http/1.1", ("h2", "http/1.1")),
    "tls_client_ca": ("ca.pem", "ca.pem"),
    "handshake_timeout": ("5s", 5.0),
    "proxy_protocol": ("off", "off"),
    "proxy_from": ("10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
    "max_connections": ("7", 7),
    "overflow": ("close", "close"),
    "per_source": ("3", 3),
    "accept_rate": ("0.5", 0.5),
    "allow": ("::1", (ip_network("::1/128"),)),
    "deny": ("192.0.2.1/24", (ip_network("192.0.2.0/24"),)),
    "idle_timeout": ("1m", 60.0),
    "write_timeout": ("1m", 60.0),
    "min_rate": ("1KiB/s", 1024.0),
    "max_lifetime": ("1h", 3600.0),
    "rate_limit": ("1MB", 1e6),
    "max_bytes": ("1MiB", 1 << 20),
    "max_memory": ("0", 0),
    "udp_rate": ("10", 10.0),
    "udp_total_rate": ("100", 100.0),
    "drain_timeout": ("500ms", 0.5),
    "drain_delay": ("5s", 5.0),
    "reload_timeout": ("1m", 60.0),
    "admin": (":9000", Address("127.0.0.1", 9000)),
    "admin_write": ("1", True),
    "access_log": ("0", False),
    "log_time": ("1", True),
    "delay": ("10ms", 0.01),
    "jitter": ("1ms", 0.001),
    "throttle": ("1KiB", 1024.0),
    "slice": ("3", 3),
    "reset_after": ("1KiB", 1024),
    "close_after": ("1KiB", 1024),
    "corrupt": ("0.25", 0.25),
    "half_open": ("1", 1.0),
    "seed": ("7", 7),
    "slow_step": ("50ms", 0.05),
    "trace": ("t.jsonl", "t.jsonl"),
    "trace_size": ("1MiB", 1 << 20),
    "production": ("1", True),
    "fail_on": ("boom", "boom"),
    "prefix": ("> ", "> "),
    "max_line": ("1MiB", 1 << 20),
    "log_level": ("error", "error"),
    "log_format": ("json", "json"),
    "verbose": ("1", True),
}


# What an option is refused without.
_TLS: dict[str, Any] = {"bind": "tls://127.0.0.1:0", "tls_cert": "cert.pem"}
BESIDE: dict[str, dict[str, Any]] = {
    "tls_cert": _TLS,
    "tls_key": _TLS,
    "tls_client_ca": _TLS,
    "tls_alpn": _TLS,
    "proxy_from": {"proxy_protocol": "required"},
}


# These become a --bind.
ALIASES = {"port", "host"}


def test_every_option_is_tried_here():
    assert set(GIVEN) | ALIASES == set(OPTIONS)


def test_the_defaults_are_the_same_everywhere():
    assert from_command_line() == ServeOptions()


@pytest.mark.parametrize("name", GIVEN)
def test_each_way_to_give_an_option_means_the_same(name):
    text, value = GIVEN[name]
    beside: dict[str, Any] = {
        each: given for each, given in BESIDE.get(name, {}).items() if each != name
    }
    environment = {variable(each): given for each, given in beside.items()}
    short = OPTIONS[name].short
    given = [flag(name), text]
    if OPTIONS[name].switch:
        given = [flag(name) if value else switches(name).partition("/")[2]]
    by_flag = from_command_line(*given, **environment)
    assert getattr(by_flag, name) == value
    assert by_flag == from_command_line(**{variable(name): text}, **environment)
    assert by_flag == ServeOptions(**{name: value}, **beside)
    if short:
        assert by_flag == from_command_line(short, *given[1:])
    if not OPTIONS[name].switch and name != "bind":
        assert by_flag == ServeOptions(**{name: text}, **beside)


@pytest.mark.parametrize("name", [name for name in OPTIONS if default_text(name)])
def test_the_default_that_is_shown_is_the_default(name):
    shown = default_text(name)
    assert getattr(from_command_line(flag(name), shown), name) == getattr(ServeOptions(), name)


def test_bind_may_be_given_several_times_and_in_several_ways():
    two = (Address("127.0.0.1", 1), Address("::1", 2))
    assert from_command_line("-b", "127.0.0.1:1", "-b", "tcp://[::1]:2").bind == two
    assert from_command_line(ANYSOCK_BIND="127.0.0.1:1 [::1]:2").bind == two
    assert ServeOptions(bind=["127.0.0.1:1", Address("::1", 2)]).bind == two
    assert ServeOptions(bind=Address("127.0.0.1", 1)).bind == two[:1]


@pytest.mark.parametrize(
    ("arguments", "bound"),
    [
        (["--port", "9000"], Address("127.0.0.1", 9000)),
        (["-p", "0"], Address("127.0.0.1", 0)),
        (["--host", "0.0.0.0"], Address("0.0.0.0", 8000)),
        (["--host", "localhost", "--port", "9000"], Address("localhost", 9000)),
        (["--host", "::1", "-p", "9000"], Address("::1", 9000)),
        (["--host", "[::1]"], Address("::1", 8000)),
        (["--host", "fe80::1%eth0"], Address("fe80::1%eth0", 8000)),
        (["--host", ""], Address("", 8000)),
    ],
    ids=str,
)
def test_host_and_port_are_short_for_a_bind(arguments, bound):
    made = from_command_line(*arguments)
    assert made == ServeOptions(bind=bound)
    names = {"--host": "host", "--port": "port", "-p": "port"}
    keywords: dict[str, Any] = {
        names[given]: value for given, value in zip(arguments[::2], arguments[1::2], strict=True)
    }
    assert ServeOptions(**keywords) == made
    # As the supervisor makes the options of its workers.
    assert dataclasses.replace(made, workers=1) == made


@pytest.mark.parametrize("short", ["host", "port"])
@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "tls://:8443"])
def test_beside_a_bind_they_make_no_sense(short, bind):
    given = {"host": "localhost", "port": "9000"}[short]
    says = f"--{short}: --bind includes host and port"
    with pytest.raises(UsageError, match=says):
        from_command_line(f"--{short}", given, "--bind", bind)
    with pytest.raises(UsageError, match=says):
        ServeOptions(**{"bind": bind, short: given})


def test_what_is_typed_counts_more_than_the_environment_says():
    assert from_command_line("-p", "7", ANYSOCK_BIND="h:1").bind == (Address("127.0.0.1", 7),)
    assert from_command_line("-b", ":7", ANYSOCK_BIND="h:1").bind == (Address("", 7),)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_nothing_to_us():
    links = {"ANYSOCK_PORT": "tcp://10.0.0.1:8000", "ANYSOCK_SERVICE_HOST": "10.0.0.1"}
    assert from_command_line(**links, ANYSOCK_HOST="10.0.0.1") == ServeOptions()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("port", "65536", "--port: expected at most 65535"),
        ("port", "http", "--port: expected a whole number"),
        ("host", "h:80", "--host: expected a host, such as localhost"),
        ("host", "tls://h", "--host: expected a host, such as localhost"),
        ("host", "a b", "--host: expected a host, such as localhost"),
        ("bind", "nowhere", "--bind: bad address 'nowhere'"),
        ("bind", [], "--bind: expected at least one value"),
        ("engine", "warp", "--engine: unknown engine 'warp': choose one of blocking, threads"),
        ("engine", "sim", "--engine: the engine 'sim' has a network of its own"),
        ("recv_size", "0", "--recv-size: expected at least 1 byte"),
        ("recv_size", "much", "--recv-size: expected a number of bytes"),
        ("backlog", "0", "--backlog: expected at least 1"),
        ("backlog", "x", "--backlog: expected a whole number"),
        ("drain_timeout", "-1", "--drain-timeout: expected a number of seconds"),
        ("idle_timeout", "-1", "--idle-timeout: expected a number of seconds"),
        ("workers", "none", "--workers: expected a whole number"),
        ("corrupt", "2", "--corrupt: expected a number from 0 to 1"),
        ("throttle", "0", "--throttle: expected at least 1 byte per second"),
        ("rate_limit", "0.5", "--rate-limit: expected at least 1 byte per second"),
        ("allow", "10.0.0.0/33", "--allow: expected a network such as 10.0.0.0/8"),
        (
            "admin",
            "unix:///x",
            "--admin: bad address 'unix:///x': unix:// can't be used here, use host:port",
        ),
        ("bind", "tls://a:1", "--tls-cert: a tls:// address needs a certificate"),
        ("tls_key", "key.pem", "--tls-key: it has no effect without --tls-cert"),
        ("tls_alpn", "h2", "--tls-alpn: it has no effect without --tls-cert"),
        ("tls_alpn", "h2,,h3", "--tls-alpn: expected names of protocols, such as h2,http/1.1"),
        ("tls_alpn", 2, "--tls-alpn: expected names of protocols, such as h2,http/1.1, not 2"),
        ("tls_client_ca", "ca.pem", "--tls-client-ca: it has no effect without --tls-cert"),
        ("proxy_from", "10.0.0.0/8", "--proxy-from: it has no effect without --proxy-protocol"),
        ("proxy_protocol", "required", "--proxy-from: give the networks of the proxies"),
        ("drain_delay", "10s", "--drain-delay: 10s must be less than --drain-timeout, 10s"),
        ("log_level", "loud", "--log-level: expected one of debug, info, warning, error"),
        ("prefix", 3, "--prefix: expected a text"),
        ("verbose", "yes", "--verbose: expected True or False"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_in_one_line(name, value, says):
    with pytest.raises(UsageError) as caught:
        ServeOptions(**{name: value})
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


def test_a_connection_may_not_be_slowed_down_to_what_is_too_slow():
    with pytest.raises(UsageError, match="--min-rate: 1000B a second must be less than --rate-l"):
        ServeOptions(min_rate=1000, rate_limit=1000)
    assert ServeOptions(min_rate=999, rate_limit=1000).min_rate == 999


def test_what_carries_no_header_is_not_served_where_one_is_required():
    with pytest.raises(UsageError, match=r"^--proxy-protocol: .* udp:// address"):
        ServeOptions(
            bind=("127.0.0.1:0", "udp://127.0.0.1:0"),
            proxy_protocol="required",
            proxy_from=[ip_network("127.0.0.0/8")],
        )


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="bnd"):
        ServeOptions(bnd="127.0.0.1:0")  # type: ignore[call-arg]


def test_production_leaves_out_what_helps_developers():
    assert ServeOptions(production=True).slow_step == 0
    assert ServeOptions().slow_step == 0.1


def test_verbose_implies_the_level_at_which_chunks_are_logged():
    assert ServeOptions(verbose=True).log_level == "debug"


def test_options_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServeOptions().backlog = 1  # type: ignore[misc]


def test_the_reference_is_up_to_date():
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / "options.md").read_text() == reference(), "run: make docs/options.md"


HOSTILE = [
    "", "0", "-1", str(2**31), str(2**63), "9" * 401, "9" * 5000, "nan", "inf", "-inf", "1e400",
    "\udcff", "\ud800", "\0", "x" * 100_000, "[", "://", ",", 10**400, float("nan"), float("inf"),
    None, b"\xff", object(), [], [None], True,
]  # fmt: skip


def keyword(name: str, value: Any) -> dict[str, Any]:
    return {name: value}


@pytest.mark.parametrize("name", OPTIONS)
def test_whatever_is_given_is_a_value_or_one_line(name):
    for given in HOSTILE:
        told = ""
        try:
            ServeOptions(**keyword(name, given))
        except UsageError as error:
            told = str(error)
        assert len(told.splitlines()) <= 1


@pytest.mark.parametrize("name", [name for name in OPTIONS if variable(name)])
def test_whatever_the_environment_says_is_a_value_or_one_line(name):
    for given in HOSTILE:
        if not isinstance(given, str):
            continue
        told = ""
        try:
            from_command_line(**{variable(name): given})
        except UsageError as error:
            told = str(error)
        assert len(told.splitlines()) <= 1


@pytest.mark.parametrize("name", ["backlog", "socket_buffer", "recv_size"])
def test_what_a_system_call_takes_is_no_more_than_an_int_of_c(name):
    ServeOptions(**keyword(name, 2**31 - 1))
    with pytest.raises(UsageError, match=f"{flag(name)}: expected at most 2147483647"):
        ServeOptions(**keyword(name, 2**31))
