"""The machine that this process runs on: its names, its addresses, its room for descriptors."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket

from anysock.engines.base import Binding, Missing, ResolvedName, SockAddr
from anysock.machine.descriptors import ReserveDescriptor, free_descriptors
from anysock.machine.memory import available, resident

# What socket(2) and bind(2) say of a family that the kernel does not have, and of an address that
# no interface has.
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class RealMachine:
    """`Machine`, as it is."""

    def resolve(self, host: str | None, port: int, *, passive: bool) -> ResolvedName:
        flags = socket.AI_PASSIVE if passive else 0
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        return tuple((family, address) for family, _, _, _, address in found)

    def without_missing(self, binding: Binding) -> tuple[Binding, list[Missing]]:
        if not binding.named:
            return binding, []
        found, missing, first = [], [], None
        for family, address in binding.addresses:
            try:
                with socket.socket(family, socket.SOCK_STREAM) as sock:
                    sock.bind((address[0], 0, *address[2:]))
            except OSError as error:
                if error.errno in _NOT_HERE:
                    missing.append(Missing(address, os.strerror(error.errno)))
                    first = first or OSError(error.errno, os.strerror(error.errno), address)
                    continue
            # Any other error is raised when it is opened.
            found.append((family, address))
        if first is not None and not found:
            raise first
        return dataclasses.replace(binding, addresses=tuple(found)), missing

    def is_ours(self, source: SockAddr) -> bool:
        # Only a machine's own addresses can be bound. Asked anew each time, as a machine may get
        # others at any moment.
        family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
        # With the scope: without it, no interface has a link-local address.
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((source[0], 0, *source[2:]))
        except OSError as error:
            return error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENODEV)
        return True

    def free_descriptors(self) -> int | None:
        return free_descriptors()

    def reserve_descriptor(self) -> ReserveDescriptor:
        return ReserveDescriptor()

    def memory(self) -> int:
        return available()

    def resident(self) -> int | None:
        return resident()


MACHINE = RealMachine()
