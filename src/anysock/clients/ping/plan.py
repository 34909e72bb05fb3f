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
    size: int = 64
    #: How long an answer may take.
    timeout: float = 5.0
    #: It ends after so long, whatever was sent and answered; None: it does not.
    deadline: float | None = None
    #: Each line of a probe begins with the time of day: seconds since 1970-01-01 UTC.
    stamps: bool = False
    #: Each probe opens a connection of its own.
    connect: bool = False
    #: Which certificates to trust at a ``tls://`` address; None: those that the system trusts.
    tls: ssl.SSLContext | None = None
