"""Kinds of values on the command line: durations, sizes, addresses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from anysock.cli.completing import Choices, files, known
from anysock.errors import StartError, UsageError
from anysock.options.units import parse_duration, parse_size
from anysock.options.values import path, whole


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


class FileValue(Value):
    """The name of a file. Several are separated as in PATH where they stand in one environment
    variable: a name may have blanks."""

    envvar_list_splitter = os.pathsep

    def __init__(self, name: str, parse: Callable[[Any], Any]) -> None:
        super().__init__(name, parse, is_file=True)


#: In bytes.
MAX_MESSAGE = 1 << 30


def _size_of_a_message(value: Any) -> int:
    size = parse_size(value)
    if not size:
        raise UsageError("a message has at least one byte")
    if size > MAX_MESSAGE:
        raise UsageError(f"a message has at most 1GiB, not {value}")
    return size


def _output_file(value: Any) -> Path:
    """Looked at before the work, so that its result is not lost for want of a place."""
    found = Path(value)
    if str(found) == "-":
        return found
    try:
        folder, taken = found.parent.is_dir(), found.is_dir()
        writable = os.access(found if found.exists() else found.parent, os.W_OK)
    except OSError as error:  # such as a name that is too long
        raise UsageError(f"can't write {found}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"expected a file, not {value!r}") from None
    if not folder:
        raise UsageError(f"can't write {found}: there is no folder {found.parent}")
    if taken or not writable:
        raise UsageError(f"can't write {found}: no permission, or it is a folder")
    return found


def _own_file(value: Any) -> Path:
    found = _output_file(value)
    if str(found) == "-":
        raise UsageError("expected a file: standard output is for the report in words")
    return found


def write_file(path: Path, text: str) -> None:
    """Write what a command has found out. Raises `StartError` if that has become impossible since
    the file was looked at."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StartError(f"can't write {path}: {error.strerror}") from None


DURATION = Value("duration", parse_duration)
SIZE = Value("size", _size_of_a_message)
# Or -, standard output.
OUTPUT_FILE = Value("file", _output_file, is_file=True)
OWN_FILE = Value("file", _own_file, is_file=True)
INPUT_FILE = Value("file", path, is_file=True)
COUNT = Value("number", whole(1))
#: How many there are at once: more than any machine of today holds.
AT_ONCE = Value("number", whole(1, 10**6))
