"""The `uring` engine: completion, on Linux's io_uring.

Under the other engines, the system says which socket is ready, and then it is us who receive. Here
we say what we want, and the system says when it is done. A receive is asked for once and stays
(multishot), and brings what comes in buffers that all connections share; what is sent is handed
over together with all else that was asked for in a turn of the loop, by the one system call that
also sleeps.

Linux 6.1 is the oldest that has all that is used.

- `available`: whether it is there, and if not, why;
- `streams`: connected sockets; what is in flight on them is a `Conduit` of ``anysock/_uring.c``;
- `engine`: the engine; the loop is ours, and its poller a `Ring`.
"""
