"""UDP, as an engine offers it. Part of the contract (`base`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from anysock.engines.machine import SockAddr

#: A control message: its level, its type, its data (cmsg(3)).
Control: TypeAlias = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class Datagram:
    """A datagram that was received."""

    data: bytes
    source: SockAddr
    #: The host that it was sent to; of a broadcast or a multicast, that address. None where the
    #: system does not say.
    destination: str | None = None
    #: Whether it is known to be a broadcast or a multicast of IPv4. `destination` alone does not
    #: show that: the broadcast address of a network looks like that of a host.
    to_many: bool = False
    #: To be handed to `Datagrams.send`, so that the answer comes from the address that the request
    #: was sent to, whatever the machine's routes say.
    origin: tuple[Control, ...] = ()


class Datagrams(Protocol):
    """A UDP socket. A bound one receives from any host; a connected one from its peer alone."""

    @property
    def local(self) -> SockAddr:
        """The address of our end."""
        ...

    async def recv(self) -> Datagram:
        """Wait for a datagram. Raises `StreamClosed` after `close`, and ConnectionRefusedError when
        the peer of a connected socket was not there for what was sent (ICMP has said so)."""
        ...

    def send(
        self, data: bytes, to: SockAddr | None = None, origin: tuple[Control, ...] = ()
    ) -> None:
        """Send a datagram: at once, or not at all. To the peer, where the socket is connected.

        Raises BlockingIOError when there is no room for it, and any other OSError of sendmsg(2).
        """
        ...

    def close(self) -> None:
        """Close the socket; a task that waits in `recv` gets `StreamClosed`. Safe to call again,
        and from any task."""
        ...
