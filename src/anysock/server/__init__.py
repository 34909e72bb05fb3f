"""A server: listening sockets, a handler, and all that happens between accept and close.

- `server`: `Server`, its face, and its life from start to drain; `phase`: where it is in that life;
- `traffic`: what it has once it listens; `bindings`: what its addresses stand for on this machine;
- `acceptor`: accepting, one task a listener; `accept_policy`: what to do if accept(2) fails;
- `gate`: when a connection may come in; `admission`: who may, and how many;
- `session`: one connection, from accept to close; `handshake`: PROXY header and TLS, before the
  handler; `verdicts`: what becomes of it when the handler raises; `time_limits`: how long it may
  take for what;
- `lifespan`: what lives around the connections; `ending`: how it is told to end, and drains;
- `housekeeping`: what is checked once a second;
- `process`: signals, and the end of a process that is the server;
- `udp`: the same for datagrams.
"""
