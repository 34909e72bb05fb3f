"""``anysock``, and ``python -m anysock``: the entry point of the command line."""

import signal
import sys

from anysock.machine.process import prepare


def main() -> None:
    """Prepare the process, and only then import what takes its time."""
    try:
        prepare()
        from anysock.cli import main as run_command
    except KeyboardInterrupt:
        # Nothing has begun yet. What has, ends in its own way.
        sys.exit(128 + signal.SIGINT)
    run_command()


if __name__ == "__main__":
    main()
