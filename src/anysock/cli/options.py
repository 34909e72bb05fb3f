"""Command-line options made from the declarations of `anysock.options`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from anysock.errors import UsageError
from anysock.options import DEFAULTS, OPTIONS, Option, default_text, flag, variable

F = TypeVar("F", bound=Callable[..., Any])


class _Value(click.ParamType[Any]):
    """Any option's value: its declaration knows how to read it."""

    def __init__(self, spec: Option) -> None:
        self._parse = spec.parse
        self.name = spec.metavar or "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def with_options(command: F) -> F:
    """Give `command` every option of `ServeOptions`."""
    for name, spec in reversed(OPTIONS.items()):
        default = default_text(name)
        help = f"{spec.help}{' Repeatable.' if spec.many else ''}"
        notes = [f"default: {default}"] if default else []
        command = click.option(
            *([spec.short] if spec.short else []),
            flag(name),
            name,
            help=f"{help} [{'; '.join([*notes, variable(name)])}]",
            envvar=variable(name),
            default=DEFAULTS[name],
            multiple=spec.many,
            is_flag=spec.switch,
            type=None if spec.switch else _Value(spec),
            metavar=spec.metavar or None,
        )(command)
    return command
