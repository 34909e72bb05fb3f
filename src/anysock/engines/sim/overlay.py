"""The modules of this package, compiled: where they are there, they are what is imported.

mypyc has translated them to C, when Anysock was installed where ANYSOCK_COMPILE_SIM was set
(``hatch_build.py``): a history takes little more than half of its time then, and is the same. They
lie in a folder of their own, with a digest of the sources that they were made from. If these are
others now, because somebody has changed them, it is the sources that are run.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
from pathlib import Path

#: Those that are. What the others are made of, mypyc does not know (subclasses of ModuleType, and
#: of what `relinked` has executed; callbacks of ctypes); or nobody waits for them.
MODULES = (
    "accepting",
    "agenda",
    "calls",
    "chance",
    "dice",
    "end_faults",
    "fates",
    "faults",
    "here",
    "host",
    "host_faults",
    "links",
    "memory",
    "network",
    "poller",
    "ports",
    "schedules",
    "sockets",
    "tcp",
    "tcp_end",
    "tcp_faults",
    "tcp_handshake",
    "tcp_way",
    "timeline",
    "troubles",
    "udp",
    "udp_faults",
    "unix",
)

#: The folder that they are in, beside their sources, and the file there that says of which.
FOLDER = "compiled"
DIGEST = "sources"

# The module that has all of them; each other one only names it.
_LIBRARY = "anysock_sim__mypyc"


def digest_of(package: Path) -> str:
    """What the sources in `package` are recognized by."""
    found = hashlib.blake2b(digest_size=16)
    for name in MODULES:
        found.update((package / f"{name}.py").read_bytes())
    return found.hexdigest()


def _library_in(folder: Path) -> Path:
    return folder / f"{_LIBRARY}{sysconfig.get_config_var('EXT_SUFFIX')}"


def compiled_in(package: Path) -> Path | None:
    """The folder of those that are compiled of the sources in `package`; None: there are none for
    this interpreter, or they are of other sources."""
    folder = package / FOLDER
    try:
        if not _library_in(folder).exists() or (folder / DIGEST).read_text() != digest_of(package):
            return None
    except OSError:
        return None
    return folder


def use(folder: Path) -> None:
    """Load the module that the others name."""
    loader = importlib.machinery.ExtensionFileLoader(_LIBRARY, str(_library_in(folder)))
    spec = importlib.util.spec_from_loader(_LIBRARY, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[_LIBRARY] = module
