"""A line on standard error that lives while a command works: how far it is, and some figures."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

_SHORTEST = 8


def bar_with_figures(
    console: Console, *, beside: int, describes: int = 0, quiet: bool = False
) -> Progress:
    """A line of what is done, in `describes` columns, a bar, the time, and the field ``told`` of
    its task. `beside` is how many columns it takes without its bar: where there are less, rich
    would cut the figures. Shows nothing when `console` is no terminal, or with `quiet`."""
    told = TextColumn("{task.fields[told]}")
    columns: list[ProgressColumn] = [
        TextColumn(f"{{task.description:{describes or ''}}}"),
        BarColumn(bar_width=min(console.width - beside, 40)),
        TimeElapsedColumn(),
        told,
    ]
    if console.width < beside:
        columns = [told]
    elif console.width < beside + _SHORTEST:
        del columns[1]
    return Progress(
        *columns, console=console, transient=True, disable=quiet or not console.is_terminal
    )
