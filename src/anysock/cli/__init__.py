"""The command line: one file a command, imported when the command is called.

What goes wrong is one line on standard error and an exit code: 2 when what was asked for makes no
sense, 1 when it could not be done. A traceback is a bug of ours.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from anysock import __version__

try:
    import click
except ModuleNotFoundError:
    sys.exit("anysock: the command line needs the package click: pip install anysock")

from anysock.cli.completing import check_request
from anysock.cli.helping import Commands
from anysock.cli.plain import take_any_character
from anysock.errors import LifespanFailed, StartError, UsageError
from anysock.machine import compiled
from anysock.machine.process import prepare
from anysock.net.printable import printable

COMMANDS = ("serve", "talk", "ping", "load", "top", "bench", "lab", "sim", "trace", "engines")


class _Commands(Commands):
    """Finds ``anysock NAME`` in ``anysock/cli/NAME.py``, and imports no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"anysock.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"No such command {name!r}.{_meant(name, COMMANDS)}", ctx)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(
    __version__,
    prog_name="anysock",
    message=f"%(prog)s, version %(version)s\nthe path of a message: {compiled.in_words()}",
)
def anysock() -> None:
    """An echo server, and the TCP server toolkit that it is made of."""


def main() -> NoReturn:
    """Run the command that `sys.argv` asks for."""
    prepare()
    take_any_character()
    code: object
    try:
        check_request()
        try:
            code = anysock.main(prog_name="anysock", standalone_mode=False)
        except SystemExit as end:
            code = end.code
        # Now, while it can still be told that what was printed can't be written.
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        code = error.exit_code
    except click.NoSuchOption as error:
        meant = _meant(error.option_name, _known(error.ctx))
        _say(f"anysock: No such option {error.option_name!r}.{meant}")
        code = error.exit_code
    except click.ClickException as error:
        _say(f"anysock: {error.format_message()}")
        code = error.exit_code
    except UsageError as error:
        _say(f"anysock: {printable(str(error))}")
        code = 2
    except (StartError, LifespanFailed) as error:
        _say(f"anysock: {printable(str(error))}")
        code = 1
    except MemoryError:
        _say("anysock: this machine has not enough memory for that")
        code = 1
    except (click.Abort, KeyboardInterrupt):
        code = 128 + signal.SIGINT
    except OSError as error:
        if error.errno not in _CAN_NOT_BE_WRITTEN:
            raise
        # When whoever read our output has left, there is nobody to tell.
        if error.errno != errno.EPIPE:
            _say(f"anysock: can't write the output: {error.strerror}")
        # Nor should the interpreter try to flush it at exit.
        with contextlib.suppress(OSError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)  # type: ignore[arg-type]


def _known(ctx: click.Context | None) -> list[str]:
    """The long options of the command that was called."""
    params = [] if ctx is None else ctx.command.get_params(ctx)
    options = [each for each in params if isinstance(each, click.Option)]
    names = [name for each in options for name in (*each.opts, *each.secondary_opts)]
    return [name for name in names if name.startswith("--")]


def _meant(given: str, known: Sequence[str]) -> str:
    """A question, or nothing: what begins like `given` or, if nothing does, what resembles it."""
    found = [name for name in known if given and name.startswith(given)]
    found = sorted(found or difflib.get_close_matches(given, known, cutoff=0.78))
    return f" Did you mean {', '.join(found)}?" if found else ""


# A pipe without a reader; a file that is full, too large, or on a broken disk.
_CAN_NOT_BE_WRITTEN = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _say(text: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # the exit code says it, too
        print(text, file=sys.stderr, flush=True)  # noqa: T201
