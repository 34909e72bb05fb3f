"""``python -m anysock``."""

from anysock.cli import main

main()
