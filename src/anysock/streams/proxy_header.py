"""The header of the PROXY protocol, read from a stream."""

from __future__ import annotations

import functools

from anysock.engines.base import Stream
from anysock.net.proxy_protocol import Header, HeaderParser
from anysock.streams.costly import CostlyWork


async def read_header(stream: Stream, costly: CostlyWork) -> Header:
    """Receive a header from the beginning of `stream`, and nothing beyond it. A long one is checked
    when `costly`, which is shared by all connections, has time for it.

    Raises `BadProxyHeader`, and what the stream raises.
    """
    parser = HeaderParser()
    while True:
        data = await stream.recv(parser.wanted)
        if not data:
            raise parser.end()
        if parser.long:
            header = await costly.do(functools.partial(parser.feed, data))
        else:
            header = parser.feed(data)
        if header is not None:
            return header
