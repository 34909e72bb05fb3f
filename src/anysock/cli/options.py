"""Command-line options made from the declarations of `anysock.options.serve`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from anysock.cli.helping import GroupedOption
from anysock.cli.values import FileValue, Value
from anysock.options.serve import DEFAULTS, OPTIONS
from anysock.options.texts import default_text, switches, variable
from anysock.options.values import Option

F = TypeVar("F", bound=Callable[..., Any])


def with_options(command: F) -> F:
    """Give `command` every option of `ServeOptions`; it is called with those that were given."""
    command = _with_what_is_given(command)
    groups = [spec.group for spec in OPTIONS.values()]
    for number, (name, spec) in reversed(list(enumerate(OPTIONS.items()))):
        default = default_text(name)
        help = f"{spec.help}{' Repeatable.' if spec.many else ''}"
        command = click.option(
            *([spec.short] if spec.short else []),
            switches(name),
            name,
            cls=GroupedOption,
            group=next(filter(None, reversed(groups[: number + 1]))),
            help=f"{help}  [default: {default}]" if default else help,
            envvar=variable(name) or None,
            default=DEFAULTS[name],
            multiple=spec.many,
            is_flag=spec.switch,
            type=None if spec.switch else _type_of(spec),
            metavar=spec.metavar or None,
        )(command)
    return command


def _type_of(spec: Option) -> Value:
    if spec.metavar == "FILE":
        return FileValue(spec.metavar, spec.parse)
    return Value(spec.metavar or "text", spec.parse, spec.choices)


def _with_what_is_given(command: F) -> F:
    @functools.wraps(command)
    def called(**keywords: Any) -> Any:
        source = click.get_current_context().get_parameter_source
        given = {
            name: value
            for name, value in keywords.items()
            if name not in OPTIONS or source(name) is not ParameterSource.DEFAULT
        }
        # What is typed beats what the environment says, also where it says it in other words.
        if {"host", "port"} & given.keys() and source("bind") is ParameterSource.ENVIRONMENT:
            del given["bind"]
        return command(**given)

    return called  # type: ignore[return-value]
