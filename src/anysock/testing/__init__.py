"""What tests of handlers and protocols need. ``import anysock`` does not import it.

- `memory`: two ends of a connection, without a socket.
"""

from __future__ import annotations

from anysock.testing.memory import connection_pair

__all__ = ["connection_pair"]
