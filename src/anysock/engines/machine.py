"""What an engine runs on: a machine, with its names and addresses. Part of the contract: `base`."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from anysock.machine.descriptors import ReserveDescriptor

#: What the socket module calls an address: ``(host, port)``, ``(host, port, flow, scope)``, and
#: the path of a Unix socket. A peer on a Unix socket, which has no address, is ``"unix"``.
SockAddr: TypeAlias = tuple[Any, ...] | str

#: The addresses that one name has, each as what bind(2) wants. Port 0 takes one free port for
#: all of them.
ResolvedName: TypeAlias = Sequence[tuple[socket.AddressFamily, SockAddr]]


@dataclass(frozen=True)
class Binding:
    """Something to listen on: the addresses of a name, or a descriptor that listens already."""

    #: As the user wrote it.
    label: str
    addresses: ResolvedName = ()
    #: An inherited descriptor. Other processes may listen on it, too: the peers that wait in its
    #: backlog when we stop are theirs, and stay there.
    fd: int | None = None
    #: Whether the addresses are what a name stands for, or no host at all, and not what the user
    #: wrote: then some of them may be missing on this machine.
    named: bool = False
    #: The permissions of a Unix socket's file; None leaves them to the umask.
    mode: int | None = None
    #: Whether peers speak TLS here. The engine only keeps it.
    tls: bool = False


class Missing(NamedTuple):
    """An address that this machine does not have, and the system's words for it."""

    address: SockAddr
    reason: str


class Machine(Protocol):
    """The machine that an engine runs on: the real one is `engines.posix.machine.MACHINE`."""

    def resolve(self, host: str | None, port: int, *, passive: bool) -> ResolvedName:
        """What the name `host` stands for, as getaddrinfo(3) says it; `passive`: to listen on.
        None is every address of the machine then, and otherwise the machine itself.

        Blocks while the resolver does, perhaps for seconds: to be called by `Engine.to_thread`
        where others run. Raises OSError, and UnicodeError for an impossible name.
        """
        ...

    def without_missing(self, binding: Binding) -> tuple[Binding, list[Missing]]:
        """`binding` with those of its addresses that this machine has; and the others.

        A name such as localhost may stand for ::1 where no interface has it (as in a container),
        and no host for all of IPv6 where the kernel has none. They are left out. If no other is
        left, it raises OSError with `filename` set to the first. Addresses that a user wrote are
        not checked.
        """
        ...

    def is_ours(self, source: SockAddr) -> bool:
        """Whether the host of `source` is this machine. True, too, where that can't be found out,
        for want of a descriptor."""
        ...

    def free_descriptors(self) -> int | None:
        """How many more descriptors may be opened; None: without limit."""
        ...

    def reserve_descriptor(self) -> ReserveDescriptor:
        """A descriptor that is kept back from now on."""
        ...

    def memory(self) -> int:
        """How many bytes of memory there are for this process."""
        ...

    def resident(self) -> int | None:
        """How many bytes of memory this process has now; None: the system does not say."""
        ...
