"""What a server has for those of its handlers that start TLS. (Without a word of ssl: OpenSSL is
loaded only where it is needed.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anysock.net.certificates import Certificates
    from anysock.streams.costly import CostlyWork


@dataclass(frozen=True)
class TlsOffer:
    """All connections of a server share it."""

    #: What to show to clients; None: the server has none.
    certificates: Certificates | None
    #: Seconds that a handshake may take; None: without limit.
    timeout: float | None
    recv_size: int | None
    costly: CostlyWork
