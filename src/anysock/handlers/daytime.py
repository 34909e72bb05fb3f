"""The Daytime Protocol, RFC 867: date and time in words, then the end."""

from __future__ import annotations

import time

from anysock.engines.current import current_engine
from anysock.streams.connection import Connection


async def daytime(connection: Connection) -> None:
    """Send one line, such as ``Monday, November 23, 2026 08:15:23-UTC``."""
    now = time.gmtime(current_engine().time())
    await connection.send_all(time.strftime("%A, %B %d, %Y %H:%M:%S-UTC\r\n", now).encode())
