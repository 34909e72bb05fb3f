"""What ``--help`` looks like: options under headings, no name of an option broken over two lines,
and readable in a narrow terminal, too."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import Any

import click

# So wide at most: longer lines are hard to read.
_WIDEST = 80

# Below, the help of an option stands under it: beside it, there would be no room for words.
_NARROW = 58

# The column of options that stand under headings, of all alike; a longer one is a line of its own.
_COLUMN = 26


class Formatter(click.HelpFormatter):
    """Writes help as wide as the terminal is, however narrow."""

    def __init__(self, width: int | None = None, **keywords: Any) -> None:
        columns = min(shutil.get_terminal_size().columns, _WIDEST)
        super().__init__(width=width or max(columns - 2, 20), **keywords)

    def write_text(self, text: str) -> None:
        super().write_text(_unbreakable(text))

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        if self.width >= _NARROW:
            kept = [(term, _unbreakable(text)) for term, text in rows]
            super().write_dl(kept, col_max, col_spacing)
            return
        for term, text in rows:
            self.write_text(term)
            with self.indentation():
                self.write_text(text)

    def getvalue(self) -> str:
        return super().getvalue().replace(_HYPHEN, "-").replace(_BLANK, " ")


# While lines are broken, these stand for what they must not be broken at.
_HYPHEN, _BLANK = "\N{NON-BREAKING HYPHEN}", "\N{NO-BREAK SPACE}"


def _unbreakable(text: str) -> str:
    return text.replace("-", _HYPHEN).replace("[default: ", f"[default:{_BLANK}")


class _Context(click.Context):
    formatter_class = Formatter


class Command(click.Command):
    """A command, whose options stand under their headings; those without one come last."""

    context_class = _Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        params = self.get_params(ctx)
        if not any(isinstance(param, GroupedOption) for param in params):
            super().format_options(ctx, formatter)
            return
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in params:
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                names, help = record
                group = param.group if isinstance(param, GroupedOption) else "Other options"
                groups.setdefault(group, []).append((names.ljust(_COLUMN), help))
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records, col_max=_COLUMN)


class GroupedOption(click.Option):
    """An option that stands under the heading `group`."""

    def __init__(self, *arguments: Any, group: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.group = group


class Commands(click.Group):
    """Commands, whose help looks like that."""

    context_class = _Context
