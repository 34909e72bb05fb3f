"""A command of ours, run to its end, or no further than to what is wrong with it."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from anysock import cli
from anysock.errors import UsageError
from tests import prepared


def anysock(*arguments: str, typed: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """What it has said; it must have ended with `code`, and without a traceback."""
    done = prepared.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "anysock", *arguments],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def refused(*arguments: str) -> str:
    """The line in which it says what is wrong with its arguments. It is run in this process:
    `test_serve.py` tests what becomes of such an error in a process, for all commands."""
    with pytest.raises((UsageError, click.UsageError)) as caught:
        cli.anysock.main(list(arguments), prog_name="anysock", standalone_mode=False)
    error = caught.value
    told = error.format_message() if isinstance(error, click.UsageError) else str(error)
    assert "\n" not in told
    return told
