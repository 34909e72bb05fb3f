"""Non-blocking sockets: what `polling`, `selector`, `asyncio` and `uvloop` share.

All try an operation, and when the kernel says EAGAIN (BlockingIOError) the task is suspended. They
differ in when it is resumed, and that is up to what watches the descriptors: see ``polling.py``,
``selector.py`` and ``asyncio/watching.py``.

- `watching`: what they need of a loop;
- `streams`: connected sockets, and UDP sockets;
- `sockets`: listening, accepting, connecting;
- `engine`: the engine on our own loop, for `polling` and `selector`.
"""
