"""The network without sockets: addresses, messages, TLS, PROXY protocol; bytes in, bytes out."""
