"""A server: listening sockets, a handler, and all that happens between accept and close.

- `server`: `Server`, its life from start to drain;
- `bindings`: what its addresses stand for on this machine;
- `gate`: when the next one may come in; `admission`: who may;
- `accept_policy`: what if accept(2) fails;
- `handshake`: PROXY header and TLS, before the handler;
- `session`: one connection, and how long it may stay;
- `verdicts`: what becomes of it when the handler raises;
- `housekeeping`: what is looked at once a second;
- `udp`: the same for datagrams.
"""
