"""Tables for a terminal of any width, in which no figure is ever cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# So wide at least is a column of words in a table: narrower, they are hard to read, and long ones
# have to be broken.
_WORDS = 20

# Wider than any terminal.
_ENDLESS = 100_000


@dataclass(frozen=True)
class _Column:
    name: str
    words: bool
    left: bool


class Sheet:
    """Rows of figures, for rich: a table where there is room for all of it; where there is not,
    each row a block of lines, ``name  figure``, under its first cell.

    A table of rich's own cuts what it has no room for, and ``122,…`` looks like a figure.
    """

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._columns: list[_Column] = []
        self._rows: list[tuple[tuple[str, ...], bool]] = []

    def column(self, name: str = "", *, words: bool = False, left: bool = False) -> None:
        """A column more: of figures, which are never broken, flush right unless `left`; or of
        `words`, which may be."""
        self._columns.append(_Column(name, words, left or words or not self._columns))

    def row(self, *cells: str, end_section: bool = False) -> None:
        """A row more, of rich's markup. One without a first cell goes on with the row before."""
        self._rows.append((cells, end_section))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._rows and self._needs(console, options) > options.max_width:
            yield from self._blocks()
        else:
            yield self._table(_ENDLESS)

    def _needs(self, console: Console, options: ConsoleOptions) -> int:
        """How wide the table is at least."""
        endless = options.update(width=_ENDLESS)
        return console.measure(self._table(_WORDS), options=endless).maximum

    def _table(self, widest: int) -> Table:
        table = Table(box=SIMPLE_HEAD, title=self._title or None, title_justify="left")
        for column in self._columns:
            table.add_column(
                column.name,
                justify="left" if column.left else "right",
                no_wrap=not column.words,
                overflow="fold",
                max_width=widest if column.words else None,
            )
        for cells, end_section in self._rows:
            table.add_row(*cells, end_section=end_section)
        return table

    def _blocks(self) -> Iterator[RenderableType]:
        yield ""
        if self._title:
            yield f"[italic]{self._title}[/italic]"
        for (first, *cells), end_section in self._rows:
            if first:
                yield Text.from_markup(first, style="bold", overflow="fold")
            block = Table.grid(padding=(0, 2))
            block.add_column(overflow="fold")
            block.add_column(overflow="fold")
            for column, cell in zip(self._columns[1:], cells, strict=False):
                if cell:
                    block.add_row(column.name, cell)
            yield Padding(block, (0, 0, 0, 2))
            if end_section:
                yield ""
        yield ""


def facts() -> Table:
    """Lines of ``name  what there is to say``, for `add_row`: what is long is wrapped, not cut."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    return table
