"""The network without its sockets: addresses, framing, policies, and streams around streams."""
