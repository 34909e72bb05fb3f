"""What a run of probes is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anysock.net.addresses import Address

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True)
class Plan:
    """What to send, and when. Times in seconds, sizes in bytes."""

    address: Address
    #: How many probes; None: until it is interrupted.
    count: int | None = None
    #: Between the sending of two probes; 0: the next is sent when the last is answered.
    interval: float = 1.0
    #: ``flood``: the next is sent when the last is answered, and 100 a second at least; marks
    #: instead of lines. ``adaptive``: when it is answered, or would have been, by the round trips
    #: so far; 500 a second at most. None: by `interval`.
    pace: str | None = None
    size: int = 64
    #: How long an answer may take.
    timeout: float = 5.0
    #: It ends after so long, whatever was sent and answered; None: it does not.
    deadline: float | None = None
    #: Each line of a probe begins with the time of day: seconds since 1970-01-01 UTC.
    stamps: bool = False
    #: Each probe opens a connection of its own.
    connect: bool = False
    #: Try addresses of this family only: `socket.AF_INET`, `AF_INET6`.
    family: int | None = None
    #: The address of this machine to connect from.
    source: str | None = None
    #: Begin each connection with a header of the PROXY protocol, in version 1 or 2.
    send_proxy: int | None = None
    #: Which certificates to trust at a ``tls://`` address; None: those that the system trusts.
    tls: ssl.SSLContext | None = None

    @property
    def flood(self) -> bool:
        return self.pace == "flood"
