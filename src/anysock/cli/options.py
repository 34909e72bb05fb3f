"""Command-line options made from the declarations of `anysock.options`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from anysock.cli.values import Value
from anysock.options import DEFAULTS, OPTIONS, default_text, switches, variable

F = TypeVar("F", bound=Callable[..., Any])


def with_options(command: F) -> F:
    """Give `command` every option of `ServeOptions`."""
    for name, spec in reversed(OPTIONS.items()):
        default = default_text(name)
        help = f"{spec.help}{' Repeatable.' if spec.many else ''}"
        notes = [f"default: {default}"] if default else []
        command = click.option(
            *([spec.short] if spec.short else []),
            switches(name),
            name,
            help=f"{help} [{'; '.join([*notes, variable(name)])}]",
            envvar=variable(name),
            default=DEFAULTS[name],
            multiple=spec.many,
            is_flag=spec.switch,
            type=None if spec.switch else Value(spec.metavar or "text", spec.parse),
            metavar=spec.metavar or None,
        )(command)
    return command
