"""Non-blocking sockets under our own loop: what the `polling` and the `selector` engine share.

Both try an operation, and when the kernel says EAGAIN (BlockingIOError) the task is suspended. They
differ in when it is resumed, and that is up to the poller: see ``polling.py`` and ``selector.py``.

- `engine`: the engine;
- `streams`: connected sockets, and UDP sockets, under it.
"""
