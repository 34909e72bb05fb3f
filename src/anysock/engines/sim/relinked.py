"""The modules of the non-blocking engines, once more, on the system calls of a simulated host.

Each is executed a second time, as a module of its own whose ``import socket`` finds the stand-in of
`system`, and whose imports of each other find the second ones. So the code under test is the very
code that serves, and that pays nothing for it: there is no hook in it that would be asked on the
way of each message.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import types
from typing import Any

from anysock.engines.sim.system import STAND_INS

# Those that make system calls, and those that hold on to one of these.
_RELINKED = frozenset(
    {
        "anysock.engines.nonblocking.engine",
        "anysock.engines.nonblocking.pacing",
        "anysock.engines.nonblocking.sockets",
        "anysock.engines.nonblocking.streams",
        "anysock.engines.posix.datagrams",
        "anysock.engines.posix.engine",
        "anysock.engines.posix.listening",
        "anysock.engines.posix.machine",
        "anysock.engines.posix.streams",
        "anysock.loop.kernel",
        "anysock.machine.descriptors",
    }
)

_done: dict[str, types.ModuleType] = {}


def relinked(name: str) -> types.ModuleType:
    """The second module `name`."""
    module = _done.get(name)
    if module is None:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        module = _done[name] = types.ModuleType(name)
        module.__spec__ = spec
        module.__file__ = spec.origin
        module.__package__ = spec.parent
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        # pytest's loader has no code to give.
        loader: Any = spec.loader
        if not hasattr(loader, "get_code"):
            loader = importlib.machinery.SourceFileLoader(name, spec.origin)
        code = loader.get_code(name)
        assert code is not None
        exec(code, module.__dict__)
    return module


def _import(
    name: str,
    globals_: Any = None,
    locals_: Any = None,
    names: Any = (),
    level: int = 0,
) -> Any:
    if name in STAND_INS:
        return STAND_INS[name]
    if name in _RELINKED and names:
        return relinked(name)
    return builtins.__import__(name, globals_, locals_, names, level)


#: The class that the engine `sim` is made of, and the kernel of its loop.
NonblockingEngine: Any = relinked("anysock.engines.nonblocking.engine").NonblockingEngine
Kernel: Any = relinked("anysock.loop.kernel").Kernel
