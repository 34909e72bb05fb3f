"""What tests of handlers and protocols need. ``import anysock`` does not import it.

- `memory`: two ends of a connection, without a socket.
- `server`: a server on a thread of its own, and what it leaves;
- `plugin`: the plugin for pytest, with fixtures for both.
"""

from __future__ import annotations

from anysock.testing.memory import connection_pair
from anysock.testing.server import ServerThread, assert_nothing_left, serving

__all__ = ["ServerThread", "assert_nothing_left", "connection_pair", "serving"]
