"""The same once more, in a process of its own with another hash seed."""

from __future__ import annotations

import subprocess
import sys
import zlib


def same_in_another_process(found: object, module: str, expression: str) -> bool:
    """Whether `expression`, of names of `module`, is there what `found` is here, by `repr`."""
    name = expression.partition("(")[0]
    program = (
        f"from {module} import {name}; import zlib; print(zlib.crc32(repr({expression}).encode()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    return int(told) == zlib.crc32(repr(found).encode())
