"""A simulated network, with a virtual clock, under the real server and the real streams.

Nothing of the other engines was changed for it: `relinked` executes their modules once more, on
stand-ins for ``socket``, ``os``, ``select`` and ``time`` that act on a host of the simulation. So
what runs here is the code that serves elsewhere, down to each system call.

- `chance`: seeded streams of chance, one for each concern;
- `network`: the clock, what is to happen, and which host is next;
- `host`: a host: its addresses, its descriptors, its loop;
- `sockets`: what all sockets have in common; `tcp`, `unix` and `udp` are their kinds;
- `system`: the stand-ins for the system calls; `relinked`: the modules on them;
- `poller`, `engine`: the engine.
"""
