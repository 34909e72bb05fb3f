"""The sockets that the supervisor opens, and that its workers inherit."""

from __future__ import annotations

import socket
from collections.abc import Callable

from anysock import systemd
from anysock.engines.base import Binding
from anysock.engines.posix.datagrams import open_datagrams
from anysock.engines.posix.listening import ListeningSocket, open_sockets
from anysock.engines.posix.machine import MACHINE
from anysock.net.addresses import Address, explain_bind_error, format_sockaddr
from anysock.options.serve import ServeOptions
from anysock.server.bindings import binding_here


class SharedSockets:
    """The listening sockets and UDP sockets of several processes. `left_out` is called for
    addresses as `Events.address_left_out` is.

    Raises `StartError` when one of the addresses can't be used; then no socket is left open.
    """

    def __init__(self, options: ServeOptions, left_out: Callable[[str, str], object]) -> None:
        self._listening: list[ListeningSocket] = []
        self._datagrams: list[socket.socket] = []
        addresses = systemd.expand(options.addresses)
        bindings: list[Binding] = []
        over_udp: list[Binding] = []
        for address in addresses:
            binding, missing = binding_here(address, MACHINE)
            for each in missing:
                left_out(format_sockaddr(each.address, address.scheme), each.reason)
            (over_udp if address.kind == "udp" else bindings).append(binding)
        scheme = "udp"
        try:
            for binding in over_udp:
                for family, sockaddr in binding.addresses:
                    self._datagrams.append(open_datagrams(family, sockaddr, connect=False))
            scheme = "tcp"
            self._listening = open_sockets(bindings, options.backlog, options.socket_buffer)
        except OSError as error:
            self.close()
            raise explain_bind_error(error, scheme) from None

    @property
    def fds(self) -> list[int]:
        """Their descriptors, which workers inherit."""
        return [address.fd for address in self.inherited]

    @property
    def inherited(self) -> list[Address]:
        """Where a worker listens."""
        return [
            Address(scheme="tls+fd" if each.binding.tls else "fd", fd=each.sock.fileno())
            for each in self._listening
        ] + [Address(scheme="udp", fd=sock.fileno()) for sock in self._datagrams]

    @property
    def addresses(self) -> list[str]:
        """The addresses for clients, such as ``tcp://127.0.0.1:8000``."""
        return [
            format_sockaddr(each.address, "tls" if each.binding.tls else "tcp")
            for each in self._listening
        ] + [format_sockaddr(sock.getsockname(), "udp") for sock in self._datagrams]

    def close(self) -> None:
        """Close our copies. Safe to call again.

        Who waits in the backlog of those that we have opened is left to the workers, and they close
        theirs: nobody else may come in."""
        for listening in self._listening:
            listening.let_in_no_other()
            listening.close()
        for sock in self._datagrams:
            sock.close()
        self._listening.clear()
        self._datagrams.clear()
