"""``anysock top``."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from anysock.admin.query import MAX_FILTER, MAX_ROWS
from anysock.cli.consoles import wide_console
from anysock.cli.helping import Command
from anysock.cli.keyboard import keys_at_once, wait_for_keys
from anysock.cli.top_screen import draw, printed
from anysock.cli.top_view import SORTS, TEXTS, View, Wish
from anysock.clients.live import LiveSource, NoAnswer
from anysock.errors import UsageError
from anysock.machine.process import sigterm_interrupts
from anysock.net.addresses import Address

# Seconds between two questions, and until a terminal of another size is drawn anew.
EVERY_SECONDS = 1.0
_LOOK_SECONDS = 0.25


@click.command("top", cls=Command, short_help="Watch a server's connections in the terminal.")
@click.argument("address", default=":9000")
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    default="rate_in",
    show_default=True,
    metavar="COLUMN",
    help=f"What to sort by: {', '.join(SORTS)}. Texts rise, figures fall.",
)
@click.option("--filter", "text", default="", help="Show only connections with this in a text.")
@click.option("--once", is_flag=True, help="Print a table, and end.")
def command(address: str, sort: str, text: str, once: bool) -> None:
    """Watch the server whose admin endpoint (serve --admin) is at ADDRESS, :9000 by default: its
    connections, with what each moves and waits for, and what holds up its loop.

    Press ? for the keys.
    """
    source = LiveSource(_parsed(address))
    if len(text) > MAX_FILTER:
        raise UsageError(f"--filter: expected at most {MAX_FILTER} characters")
    view = View(sort=sort, filter=text, descending=sort not in TEXTS)
    if once:
        view.room = MAX_ROWS  # the most that an endpoint gives at once
        view.told(source.document(view.query()))
        wide_console().print(printed(view))
        return
    # Its true size, also after it has changed, whatever a shell has exported.
    surroundings = {name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "LINES"}}
    console = Console(_environ=surroundings)
    if not (console.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
        raise UsageError("this needs a terminal; --once prints a table")
    if console.is_dumb_terminal:
        raise UsageError("this terminal can't place the cursor (TERM); --once prints a table")
    # Before the screen is taken: a wrong address is one line.
    view.room = max(console.size.height - 4, 1)
    view.told(source.document(view.query()))
    _Top(source, view, console).run()


def _parsed(address: str) -> Address:
    """`address`, which may be what stands in the address line of a browser."""
    text = address.removeprefix("http://").rstrip("/")
    return Address.parse(text, default_host="127.0.0.1", schemes=("tcp",))


class _Top:
    """Asks on a thread of its own, so that keys are answered while an endpoint is slow."""

    def __init__(self, source: LiveSource, view: View, console: Console) -> None:
        self._source = source
        self._view = view
        self._console = console
        self._lock = threading.Lock()
        # What is to be asked now; whose end is asked for; what came; and whether it is over.
        self._query = view.query()
        self._ends: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._came: queue.SimpleQueue[dict[str, Any] | NoAnswer] = queue.SimpleQueue()
        self._wanted = threading.Event()
        self._over = False
        self._read, self._write = os.pipe()

    def run(self) -> None:
        sigterm_interrupts()
        threading.Thread(target=self._ask, name="asking", daemon=True).start()
        where = self._source.address.short
        with (
            Live(console=self._console, screen=True, auto_refresh=False) as live,
            keys_at_once() as keyboard,
        ):
            size = None
            keys: list[str] | None = []
            while keys is not None:
                changed = bool(keys) or size != self._console.size
                while not self._came.empty():
                    changed = True
                    self._take(self._came.get())
                for key in keys:
                    if not self._press(key):
                        self._over = True
                        return
                if changed:
                    size = self._console.size
                    live.update(draw(self._view, where, size.width, size.height), refresh=True)
                with self._lock:
                    self._query = self._view.query()
                keys = wait_for_keys(keyboard, self._read, _LOOK_SECONDS)

    def _take(self, found: dict[str, Any] | NoAnswer) -> None:
        if isinstance(found, NoAnswer):
            self._view.trouble = str(found)
        elif self._view.told(found):
            self._wanted.set()

    def _press(self, key: str) -> bool:
        """Return False to quit."""
        wish = self._view.press(key)
        if wish is Wish.END:
            self._ends.put(str(self._view.chosen))
        if wish in (Wish.ASK, Wish.END):
            with self._lock:
                self._query = self._view.query()
            self._wanted.set()
        return wish is not Wish.QUIT

    def _ask(self) -> None:
        while not self._over:
            self._wanted.wait(EVERY_SECONDS)
            self._wanted.clear()
            found: dict[str, Any] | NoAnswer
            try:
                while not self._ends.empty():
                    self._source.end(self._ends.get())
                with self._lock:
                    query = self._query
                found = self._source.document(query)
            except NoAnswer as error:
                found = error
            self._came.put(found)
            os.write(self._write, b"x")
