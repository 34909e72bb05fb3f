"""``anysock``, and ``python -m anysock``: the entry point of the command line."""

from anysock.machine.process import prepare


def main() -> None:
    """Prepare the process, and only then import what takes its time."""
    prepare()
    from anysock.cli import main as run_command

    run_command()


if __name__ == "__main__":
    main()
