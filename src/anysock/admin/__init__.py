"""The admin endpoint: is the server alive, is it ready, what has it done, what is open.

``figures.py`` is what is shown, of a server in this process (`ServerFigures`) or of any other that
implements `Figures`; ``pages.py`` makes it into answers; ``http.py`` speaks HTTP; ``endpoint.py``
runs it on a thread of its own, so that it answers while a handler blocks the server's engine.

It is an `anysock.Server` with a handler on h11. Neither of the small servers at hand would do
beside one that promises what ours does. Measured: out of descriptors, waitress 3.0.2 and
`http.server` use a whole core, and waitress writes 100,000 log records a second besides. In
waitress, a client that sends a header byte a second keeps its place, and a stop leaves its loop
running while one stays; `http.server` takes a thread for each client that says nothing.
"""

from __future__ import annotations

from anysock.admin.endpoint import AdminEndpoint, admin_server
from anysock.admin.figures import Figures, ServerFigures

__all__ = ["AdminEndpoint", "Figures", "ServerFigures", "admin_server"]
