"""The compiled path of a message (``anysock/_fast.c``): whether it is there, and wanted.

Everything runs without it, the same, but more slowly. It is left out where no compiler was there
when Anysock was installed, and not used where the environment variable ``ANYSOCK_PURE`` is 1.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

#: The compiled module; None: it is not used.
fast: ModuleType | None = None

#: Why it is not used; empty where it is.
why_not = ""

if os.environ.get("ANYSOCK_PURE", "0") not in ("", "0"):
    why_not = "ANYSOCK_PURE is set"
else:
    try:
        fast = importlib.import_module("anysock._fast")
    except ImportError as error:
        why_not = f"it is not there: {error}"


#: The same, for what makes no system calls of it, and so may have it in a simulated network too,
#: where `fast` is replaced.
steps = fast


def in_words() -> str:
    """For who asks which is in use."""
    return f"pure Python ({why_not})" if why_not else "compiled"
