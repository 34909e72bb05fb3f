"""Lines typed at a terminal: edited by GNU readline, with a history, while the other side may print
something at any time.

readline knows nothing of what others print: it draws what is being typed where it believes the
cursor to be. So what comes is printed by `Editor.show`, which takes away the line that is being
typed, prints, and has readline draw it again below. What the other side has printed last without
an end of line (``login: ``) is readline's prompt.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

# How many lines of history are kept.
_MAX_LINES = 1000

_BINDINGS = (
    # At ^] the line as it is gets that at its end, and is handed over.
    r'"\C-]": "\C-e\C-v\C-]\C-m"',
    # Else the terminal would be left in that mode where the other side ends the conversation.
    "set enable-bracketed-paste off",
    # What a line may be completed to, nobody knows: a tab is a tab.
    "tab: self-insert",
)


def editor(escape: bytes, warn: Callable[[str], object]) -> Editor | None:
    """An editor of lines, which hands one over at `escape` as well; None where standard input and
    output are no terminal that can do that, or there is no GNU readline.

    ``warn(line)`` is called when the history can't be kept.
    """
    if not (sys.stdin and sys.stdout and sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    if os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        import readline

        library = ctypes.CDLL(readline.__file__)
        # Their address is asked for: libedit, under the same name, has not all of them.
        functions = [
            getattr(library, f"rl_{name}")
            for name in ("set_prompt", "on_new_line", "forced_update_display")
        ]
        point = ctypes.c_int.in_dll(library, "rl_point")
    except (ImportError, OSError, AttributeError, ValueError):
        return None
    return Editor(escape, warn, functions, point)


class Editor:
    """Reads lines in one thread, and shows what comes in another."""

    def __init__(
        self,
        escape: bytes,
        warn: Callable[[str], object],
        functions: list[Callable[..., object]],
        point: ctypes.c_int,
    ) -> None:
        import readline

        self._readline = readline
        self._escape = escape.decode("ascii")
        self._set_prompt, self._on_new_line, self._draw = functions
        #: Where in the line the cursor is, in bytes.
        self._point = point
        self._lock = threading.Lock()
        #: Whether a line is being typed, just now.
        self._typing = False
        #: What the other side has printed since its last end of line.
        self._partial = b""
        #: What had been typed when ^] was: it goes on with that.
        self._begun = ""
        for binding in _BINDINGS:
            readline.parse_and_bind(binding)
        readline.set_auto_history(False)
        readline.set_pre_input_hook(self._begin)
        self._history = History(warn)

    def read(self) -> bytes:
        """The next line, with LF; at ^] only that; ``b""`` at ^D."""
        with self._lock:
            prompt = _plain(self._partial)
            if prompt is not None and self._partial:
                _write(b"\r\x1b[K")  # readline prints it again, as its prompt
        try:
            line = self._input(prompt or "")
        except EOFError:
            return b""
        if self._escape in line:
            self._begun = line.replace(self._escape, "")
            return self._escape.encode()
        self._history.add(line)
        return (line + "\n").encode(sys.stdin.encoding, sys.stdin.errors or "strict")

    def ask(self, prompt: str) -> bytes:
        """What is typed at `prompt`, which is no line for the other side; ``b""`` at ^D."""
        begun, self._begun = self._begun, ""
        with self._lock:
            self._partial = prompt.encode()
        try:
            return (self._input(prompt) + "\n").encode(errors="replace")
        except EOFError:
            return b""
        finally:
            self._begun = begun

    def show(self, data: bytes) -> None:
        """Print what has come, above the line that is being typed."""
        with self._lock:
            whole, newline, partial = (self._partial + data).rpartition(b"\n")
            if not self._typing:
                _write(data)
                self._partial = partial
                return
            self._clear()
            _write(whole + newline)
            self._partial = partial
            prompt = _plain(partial)
            if prompt is None:
                _write(partial)  # with colours, or so long that it goes on for lines
            self._set_prompt((prompt or "").encode())
            self._on_new_line()
            self._draw()

    def _input(self, prompt: str) -> str:
        try:
            return input(prompt)
        finally:
            with self._lock:
                self._typing = False
                self._partial = b""

    def leave(self) -> None:
        """No more lines will be read: what is printed next begins a line."""
        with self._lock:
            if self._typing and (self._partial or self._readline.get_line_buffer()):
                _write(b"\n")
            self._typing = False
            self._partial = b""

    def _begin(self) -> None:
        """readline has printed its prompt, and waits for what is typed."""
        with self._lock:
            self._typing = True
            begun, self._begun = self._begun, ""
        if begun:
            self._readline.insert_text(begun)
            self._readline.redisplay()

    def _clear(self) -> None:
        """Take away what stands in the lines of the prompt and of what is typed."""
        with contextlib.suppress(OSError):
            columns = os.get_terminal_size(1).columns
            before = len(self._partial) + self._point.value
            if columns and (rows := before // columns):
                _write(b"\x1b[%dA" % rows)
        _write(b"\r\x1b[J")


class History:
    """The lines that were typed, kept in a file of the XDG state directory."""

    def __init__(self, warn: Callable[[str], object]) -> None:
        import readline

        self._readline = readline
        self._warn = warn
        self._path: Path | None = None
        readline.clear_history()
        try:
            path = history_file()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            readline.read_history_file(path)
            if readline.get_current_history_length() > _MAX_LINES:
                readline.set_history_length(_MAX_LINES)
                readline.write_history_file(path)
            self._path = path
        except (OSError, RuntimeError) as error:  # Path.home() raises a RuntimeError
            self._give_up(error)

    def add(self, line: str) -> None:
        """Remember a line; but not one that is empty, begins with a blank, or is the last again."""
        last = self._readline.get_history_item(self._readline.get_current_history_length())
        if not line or line.startswith(" ") or line == last:
            return
        self._readline.add_history(line)
        if self._path is not None:
            try:
                # Now, and not at the end, which may be that of the terminal.
                self._readline.append_history_file(1, self._path)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._path = None
        reason = getattr(error, "strerror", None) or str(error)
        self._warn(f"the history of what is typed is not kept: {reason}")


def history_file() -> Path:
    """Where it is kept (XDG Base Directory Specification). Raises RuntimeError where there is no
    home directory."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is invalid, says the specification, and is to be ignored.
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "anysock" / "talk_history"


def _plain(partial: bytes) -> str | None:
    """A prompt that readline can count; None for what is none."""
    try:
        text = partial.decode()
        columns = os.get_terminal_size(1).columns
    except (UnicodeDecodeError, OSError):
        return None
    return text if text.isprintable() and len(text) < columns else None


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
