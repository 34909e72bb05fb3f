"""Kinds of values on the command line: durations, sizes, addresses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from anysock.cli.completing import Choices, files, known
from anysock.errors import UsageError
from anysock.option_values import whole
from anysock.units import parse_duration, parse_size


class Value(click.ParamType[Any]):
    """A value that `parse` reads, which raises `UsageError` for what it can't. A shell completes
    `choices`, or files."""

    def __init__(
        self,
        name: str,
        parse: Callable[[Any], Any],
        choices: Choices | None = None,
        *,
        is_file: bool = False,
    ) -> None:
        self.name = name
        self._parse = parse
        self._choices = choices or {}
        self._is_file = is_file

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[Any]]:
        return files(incomplete) if self._is_file else known(self._choices, incomplete)


def _size_of_a_message(value: Any) -> int:
    size = parse_size(value)
    if not size:
        raise UsageError("a message has at least one byte")
    return size


def _output_file(value: Any) -> Path:
    """Looked at before the work, so that its result is not lost for want of a place."""
    path = Path(value)
    if str(path) != "-":
        if not path.parent.is_dir():
            raise UsageError(f"can't write {path}: there is no folder {path.parent}")
        if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageError(f"can't write {path}: no permission, or it is a folder")
    return path


DURATION = Value("duration", parse_duration)
SIZE = Value("size", _size_of_a_message)
OUTPUT_FILE = Value("file", _output_file, is_file=True)
COUNT = Value("number", whole(1))
