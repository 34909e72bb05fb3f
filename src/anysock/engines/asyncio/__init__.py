"""The engines on the standard library's event loop: `asyncio`, and `asyncio-sock` to compare.

`asyncio` receives and sends as our own loop's engines do (`nonblocking/`); what is different is how
a task waits. `asyncio-sock` awaits ``loop.sock_accept``, ``loop.sock_recv`` and
``loop.sock_sendall``, as a server written straight on asyncio's low level does. What such a server
must add by hand, the strong references to its tasks and the reports of their failures, is here for
both; and so `uvloop` is a loop, and no more.

- `engine`: the engine `asyncio`, and what it shares with the other;
- `watching`: waiting for descriptors by a poller of our own within the loop;
- `hosted`: engines for loops that other programs run;
- `tasks`: asyncio's tasks and timeouts, in the words of the contract;
- `sock_engine`, `sock_streams`, `sock_listener`: the engine `asyncio-sock`, its sockets, and how it
  accepts with no peer lost.
"""
