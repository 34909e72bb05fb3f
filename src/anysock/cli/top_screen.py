"""`anysock top`, drawn: a screen of exactly as many lines as the terminal has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from anysock.cli.top_view import SORTS, Mode, View
from anysock.net.printable import printable

# Lines of a stack that are shown, the last ones: the innermost call is the one that blocks.
_STACK_LINES = 6

# From so many lines on there is room for curves; and how wide these are at most.
_HIGH = 30
_CURVE = 100

# Up to so many columns there is room for the most needed only.
_NARROW = 90

_BARS = " ▁▂▃▄▅▆▇█"

# What the keys do, the most needed first; the rest is told by "?".
_KEYS = (
    "↑↓ choose", "<> sort", "/ filter", "Enter detail", "r reverse", "p freeze", "e end",
)  # fmt: skip
_ALWAYS = ("? help", "q quit")

_HELP = """\
↑ ↓ k j            choose a connection
PgUp PgDn Home     the page before and after, the first
< >                sort by the column to the left, to the right
r                  reverse the order
/                  filter: address, TLS, waits for; Enter keeps it, Esc drops it
Enter              all that is known of the chosen connection
e                  end it (needs a server with --admin-write)
p, Space           freeze what is shown, and go on
q, Ctrl-C          quit

Waits for: receive (the client has nothing to say), send (the client does not read),
handler (something else, or it runs)."""


def size(value: float | None) -> str:
    """Bytes, in at most eight characters."""
    if value is None:
        return "–"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):  # noqa: B007
        if value < 1024:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def time_of(seconds: float | None) -> str:
    """A short time: how long a step took."""
    if seconds is None:
        return "–"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def age(seconds: float) -> str:
    """How long a connection has lasted, in at most seven characters."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    return f"{minutes}m {int(seconds % 60)}s" if minutes else f"{seconds:.1f}s"


# The columns, each with its width, and from which width of the terminal on it is shown.
_COLUMNS: tuple[tuple[str, int, int, Callable[[dict[str, Any]], str]], ...] = (
    ("peer", 21, 0, lambda row: printable(row["peer"])),
    ("via", 22, 130, lambda row: printable(row["via"] or "–")),
    ("tls", 8, 100, lambda row: printable(row["tls"] or "–")),
    ("seconds", 8, 0, lambda row: age(row["seconds"])),
    ("bytes_in", 9, 60, lambda row: size(row["bytes_in"])),
    ("bytes_out", 9, 60, lambda row: size(row["bytes_out"])),
    ("rate_in", 9, 0, lambda row: size(row["rate_in"])),
    ("rate_out", 9, 70, lambda row: size(row["rate_out"])),
    ("waits_for", 9, 50, lambda row: printable(row["waits_for"])),
)


# As wide as the longest address, of IPv6, with a port.
_LONG_PEER = 47


def draw(view: View, where: str, width: int, height: int) -> Text:
    """The screen, as lines of text. Sets ``view.room``: how many rows there is room for."""
    lines = [_title(view, where)]
    document = view.document
    if document is not None:
        lines.append(_figures(view, document, width))
        lines += _held_up(document, height)
        if height >= _HIGH:
            lines += _curves(view, width)
    room = height - len(lines) - 2
    view.room = max(room, 1)
    if document is None:
        body: list[Text] = [Text("waiting for the first answer …", style="dim")]
    elif view.mode is Mode.HELP:
        body = [Text(line) for line in ("", *_HELP.splitlines())]
    elif view.mode is Mode.DETAIL:
        body = _detail(view)
    else:
        body = [_heads(view, width), *_rows(view, width)]
    lines += body[: room + 1]
    lines += [Text("")] * (height - 1 - len(lines))
    lines.append(_foot(view, width))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines[:height])


def _title(view: View, where: str) -> Text:
    title = Text.assemble(("anysock top", "bold"), f"  {where}  ")
    document = view.document
    if view.trouble:
        title.append(printable(view.trouble), "bold red")
    elif document is not None:
        ready = document["ready"]
        if document["held_up"]:
            title.append("held up", "bold red")
        elif ready:
            title.append(printable(ready), "bold yellow")
        else:
            title.append("ready", "green")
    if view.frozen:
        title.append("  frozen", "bold cyan")
    return title


def _figures(view: View, document: dict[str, Any], width: int) -> Text:
    newest = view.samples[-1] if view.samples else {}
    figures = document["figures"]
    parts = [
        ("open", f"{document['open']:,}"),
        ("in", f"{size(newest.get('bytes_in'))}/s"),
        ("out", f"{size(newest.get('bytes_out'))}/s"),
        ("lag", time_of(figures["lag"])),
        ("p99 of steps" if width > _NARROW else "p99", time_of(newest.get("p99"))),
        ("workers", str(figures["workers"])),
    ]
    if width > _NARROW or figures["handler_failures"]:
        parts.append(("failed handlers", f"{figures['handler_failures']:,}"))
    line = Text()
    for name, value in parts:
        line.append(f"{name} ", "dim").append(value).append("  ")
    return line


def _held_up(document: dict[str, Any], height: int) -> list[Text]:
    lines = []
    for worker in document["held_up"][:2]:
        said = f"a step holds up process {worker['pid']}, for {worker['seconds']:.1f} s now, at"
        stack = printable(worker["stack"], keep="\n").splitlines()
        most = _STACK_LINES if height >= _HIGH else _STACK_LINES - 2
        lines += [Text(said, "bold red"), *(Text(each, "red") for each in stack[-most:])]
    return lines


def _curves(view: View, width: int) -> list[Text]:
    columns = max(min(_CURVE, width - 34), 10)
    samples = list(view.samples)[-columns:]
    curves = []
    for name, key, show in (
        ("connections", "connections", lambda most: f"{most:,.0f}"),
        ("bytes out/s", "bytes_out", size),
        ("loop lag", "lag", time_of),
    ):
        values = [float(sample[key]) for sample in samples]
        most = max(values, default=0.0)
        line = Text.assemble((f"{name:<12}", "dim"), (curve(values, columns), "cyan"))
        curves.append(line.append(f" most {show(most)}", "dim"))
    return curves


def curve(values: Sequence[float], columns: int) -> str:
    """A line of blocks, the newest to the right; the highest block is the highest value."""
    most = max(values, default=0.0) or 1.0
    last = len(_BARS) - 1
    blocks = "".join(_BARS[round(max(value, 0.0) / most * last)] for value in values[-columns:])
    return blocks.rjust(columns)


def _shown(width: int) -> list[tuple[str, int, Callable[[dict[str, Any]], str]]]:
    """The columns for which there is room; what is left goes to the peer, whose address may be
    long."""
    shown = [(key, wide, text) for key, wide, least, text in _COLUMNS if width >= least]
    left = width - sum(wide + 1 for _, wide, _ in shown) + 1
    (key, wide, text), *others = shown
    return [(key, wide + min(max(left, 0), _LONG_PEER - wide), text), *others]


def _cell(key: str, text: str, wide: int) -> str:
    if len(text) > wide:
        text = text[: wide - 1] + "…"
    return text.ljust(wide) if key in ("peer", "via", "tls", "waits_for") else text.rjust(wide)


def _heads(view: View, width: int) -> Text:
    heads = []
    for key, wide, _ in _shown(width):
        name, style = SORTS[key], ""
        if key == view.sort:
            # The mark stands where there is room, also behind the longest name.
            name = name[: wide - 1] + ("↓" if view.descending else "↑")
            style = "cyan"
        heads.append(Text(_cell(key, name, wide), style))
    return Text(" ", style="bold").join(heads)


def _rows(view: View, width: int) -> list[Text]:
    lines = []
    for row in view.rows[: view.room]:
        cells = [_cell(key, text(row), wide) for key, wide, text in _shown(width)]
        line = Text(" ".join(cells))
        if row["id"] == view.chosen:
            line.pad_right(max(width - len(line), 0))
            line.stylize("reverse")
        elif row["waits_for"] == "send":
            line.stylize("yellow")
        lines.append(line)
    if not lines:
        said = "no connection matches" if view.filter else "no connection is open"
        lines.append(Text(said, "dim"))
    return lines


def _detail(view: View) -> list[Text]:
    row = view.row
    if row is None:
        return [Text(""), Text(f"connection {view.chosen} has ended, or is on another page")]
    told = [
        ("connection", row["id"]),
        ("peer", row["peer"]),
        ("via", row["via"] or "–"),
        ("our end", row["local"] or "–"),
        ("TLS", row["tls"] or "–"),
        ("age", age(row["seconds"])),
        ("bytes in", f"{row['bytes_in']:,}   {size(row['rate_in'])}/s"),
        ("bytes out", f"{row['bytes_out']:,}   {size(row['rate_out'])}/s"),
        ("waits for", row["waits_for"]),
    ]
    if "worker" in row:
        told.append(("worker", str(row["worker"])))
    return [
        Text(""),
        *(Text.assemble((f"{name:<12}", "dim"), printable(str(value))) for name, value in told),
    ]


def _foot(view: View, width: int) -> Text:
    match view.mode:
        case Mode.FILTER:
            matching = view.document["matching"] if view.document else 0
            said = f"filter: {view.filter}▏  {matching:,} match  Enter keeps it, Esc drops it"
            return Text(said, "bold")
        case Mode.CONFIRM:
            peer = view.row["peer"] if view.row else view.chosen
            return Text(
                f"end the connection from {peer}? It is reset.  y: yes  any other: no", "bold red"
            )
        case Mode.DETAIL:
            return Text("Esc back  e end  q quit", "dim")
        case Mode.HELP:
            return Text("any key: back", "dim")
    document = view.document
    place = ""
    if document is not None and view.rows:
        last = document["first"] + len(view.rows)
        place = f"{document['first'] + 1}–{last} of {document['matching']:,}  "
    if view.filter:
        place += f"filter: {printable(view.filter)}  "
    keys = list(_KEYS)
    while keys and len(place) + len("  ".join((*keys, *_ALWAYS))) > width:
        keys.pop()
    return Text.assemble((place, "bold"), ("  ".join((*keys, *_ALWAYS)), "dim"))


def printed(view: View) -> Table:
    """What is there, once, for a file or a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in SORTS:
        is_text = key in ("peer", "via", "tls", "waits_for")
        table.add_column(SORTS[key], justify="left" if is_text else "right", no_wrap=True)
    for row in view.rows:
        table.add_row(*(Text(text(row)) for _, _, _, text in _COLUMNS))
    return table
