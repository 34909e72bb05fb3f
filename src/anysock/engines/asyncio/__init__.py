"""The `asyncio` engine: the standard library's event loop, through its socket methods.

Each operation awaits ``loop.sock_accept``, ``loop.sock_recv`` or ``loop.sock_sendall``, as a
server written straight on asyncio's low level does. What such a server must add by hand, the
strong references to its tasks and the reports of their failures, is here.

- `engine`: the engine;
- `streams`: connected sockets, and UDP sockets, under it;
- `listener`: accepting, with no peer lost;
- `tasks`: asyncio's tasks and timeouts, in the words of the contract.
"""
