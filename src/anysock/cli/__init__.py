"""The command line: one file a command, imported when the command is called.

What goes wrong is one line on standard error and an exit code: 2 when what was asked for makes no
sense, 1 when it could not be done. A traceback is a bug of ours.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import NoReturn

from anysock import __version__

try:
    import click
except ModuleNotFoundError:
    sys.exit("anysock: the command line needs click and rich: pip install 'anysock[cli]'")

from anysock.errors import StartError, UsageError

COMMANDS = ("serve", "talk", "ping", "load", "bench", "lab", "engines")


class _Commands(click.Group):
    """Finds ``anysock NAME`` in ``anysock/cli/NAME.py``, and imports no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"anysock.cli.{cmd_name}")
        command: click.Command = module.command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="anysock")
def anysock() -> None:
    """An echo server, and the TCP server toolkit that it is made of."""


def main() -> NoReturn:
    """The entry point of ``anysock``."""
    try:
        code = anysock.main(prog_name="anysock", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        _say(error.format_message())
        code = error.exit_code
    except click.ClickException as error:
        _say(f"anysock: {error.format_message()}")
        code = error.exit_code
    except UsageError as error:
        _say(f"anysock: {error}")
        code = 2
    except StartError as error:
        _say(f"anysock: {error}")
        code = 1
    except (click.Abort, KeyboardInterrupt):
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        # Whoever read our output has left. Nor should the interpreter try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
