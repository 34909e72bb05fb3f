"""The PROXY protocol from the other side: a client of ours that says what a proxy would say."""

from __future__ import annotations

from collections.abc import Callable

from anysock.engines.base import Stream
from anysock.net.proxy_protocol import encode


def proxy_header(version: int | None) -> Callable[[Stream], bytes] | None:
    """What makes the header of a fresh connection, in `version` 1 or 2: its own two ends, as if a
    proxy spoke for this very client (so does curl's ``--haproxy-protocol``). None for None."""
    if version is None:
        return None
    return lambda stream: encode(version, stream.local, stream.peer)
