"""Clients of an echo server, or of any other."""
