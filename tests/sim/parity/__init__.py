"""Parity: scripts on sockets, which the simulated network must answer as Linux does."""
