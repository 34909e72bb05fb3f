"""The network without its sockets: addresses, lines, TLS, PROXY protocol; bytes in, bytes out."""
