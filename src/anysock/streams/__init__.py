"""What stands on an engine's `Stream`: a `Connection` for handlers, and streams around a stream.

- `connection`: `Connection`, what a handler is given; its halves are `receiving` (chunks, lines,
  frames) and `sending` (bytes, pieces, files); its log is `connection_log`;
- `current`: the connection whose handler runs; `running`: what it knows of its server;
- `proxy_header`: the address of the client that a proxy speaks for;
- `wrapping`: what streams around another one share;
- `tls`: TLS; `starting_tls`: TLS from the middle of a conversation, with what its server has for
  that (`tls_offer`); `costly`: how handshakes take turns on one thread;
- `limiting`: a limit of the rate;
- `tracing`: bytes in the log;
- `lock`: one task at a time.
"""
