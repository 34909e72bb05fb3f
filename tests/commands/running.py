"""A command of ours, run to its end."""

from __future__ import annotations

import subprocess
import sys


def anysock(*arguments: str, typed: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    """What it has said; it must have ended with `code`, and without a traceback."""
    done = subprocess.run(
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
