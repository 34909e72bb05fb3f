"""Options are declared once: command line, environment, keywords and reference agree."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from anysock.cli.options import with_options
from anysock.errors import UsageError
from anysock.net.addresses import Address
from anysock.options import OPTIONS, ServeOptions, default_text, flag, reference, variable


def from_command_line(*arguments: str, **environment: str) -> ServeOptions:
    """What the command line makes of `arguments`."""
    made: list[ServeOptions] = []

    @click.command()
    @with_options
    def command(**keywords):
        made.append(ServeOptions(**keywords))

    done = CliRunner().invoke(command, arguments, env=environment, catch_exceptions=False)
    if done.exit_code:
        raise UsageError(done.output)
    return made[0]


# For each option: as text, and what it means.
GIVEN: dict[str, tuple[Any, Any]] = {
    "bind": ("[::1]:0", (Address("::1", 0),)),
    "engine": ("threads", "threads"),
    "recv_size": ("2KiB", 2048),
    "backlog": ("5", 5),
    "socket_buffer": ("1MiB", 1 << 20),
    "idle_timeout": ("1m", 60.0),
    "drain_timeout": ("500ms", 0.5),
    "slow_step": ("50ms", 0.05),
    "production": ("1", True),
    "fail_on": ("boom", "boom"),
    "prefix": ("> ", "> "),
    "max_line": ("1MiB", 1 << 20),
    "log_level": ("error", "error"),
    "log_format": ("json", "json"),
    "verbose": ("1", True),
}


def test_every_option_is_tried_here():
    assert set(GIVEN) == set(OPTIONS)


def test_the_defaults_are_the_same_everywhere():
    assert from_command_line() == ServeOptions()


@pytest.mark.parametrize("name", OPTIONS)
def test_each_way_to_give_an_option_means_the_same(name):
    text, value = GIVEN[name]
    short = OPTIONS[name].short
    given = [flag(name)] if OPTIONS[name].switch else [flag(name), text]
    by_flag = from_command_line(*given)
    assert getattr(by_flag, name) == value
    assert by_flag == from_command_line(**{variable(name): text})
    assert by_flag == ServeOptions(**{name: value})
    if short:
        assert by_flag == from_command_line(short, *given[1:])
    if not OPTIONS[name].switch and name != "bind":
        assert by_flag == ServeOptions(**{name: text})


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
    ("name", "value", "says"),
    [
        ("bind", "nowhere", "--bind: bad address 'nowhere'"),
        ("bind", [], "--bind: expected at least one"),
        ("engine", "warp", "--engine: unknown engine 'warp': choose one of blocking, threads"),
        ("recv_size", "0", "--recv-size: expected at least 1 byte"),
        ("recv_size", "much", "--recv-size: expected a number of bytes"),
        ("backlog", "0", "--backlog: expected at least 1"),
        ("backlog", "x", "--backlog: expected a whole number"),
        ("drain_timeout", "-1", "--drain-timeout: expected a number of seconds"),
        ("idle_timeout", "0", "--idle-timeout: expected more than 0"),
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
