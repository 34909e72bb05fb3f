"""A simulated network, with a virtual clock, under the real server and the real streams.

Nothing of the other engines was changed for it: `relinked` executes their modules once more, on
stand-ins for ``socket``, ``os``, ``select`` and ``time`` that act on a host of the simulation. So
what runs here is the code that serves elsewhere, down to each system call.

- `chance`: seeded streams of chance, one for each concern;
- `agenda`, `timeline`: the clock, what is to happen, and what has;
- `network`: which host is next, and the `links` between them;
- `host`: a host: its addresses, its descriptors, its loop;
- `sockets`: what all sockets have in common; `tcp`, `unix` and `udp` are their kinds;
- `system`, `calls`: the stand-ins for the system calls; `relinked`: the modules on them;
- `poller`, `engine`: the engine;
- `overlay`: most of these, compiled.
"""

from __future__ import annotations

from pathlib import Path

from anysock.engines.sim import overlay
from anysock.machine import compiled

_folder = None if compiled.fast is None else overlay.compiled_in(Path(__file__).parent)
#: Whether the modules of this package are compiled.
is_compiled = _folder is not None
if _folder is not None:
    overlay.use(_folder)
    __path__.insert(0, str(_folder))
