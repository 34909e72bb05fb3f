"""Clients of an echo server, or of any other."""

#: The most bytes that fit into a UDP datagram over IPv4: 65,535, less the headers (RFC 768,
#: RFC 791).
MAX_DATAGRAM = 65_507
