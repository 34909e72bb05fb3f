"""Servers that a proxy is to reach: of the standard library, in this process."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator

from tests.harness import PATIENCE


class Counter(socketserver.StreamRequestHandler):
    """Says how much has come, once all has: a client must half-close, and still receive."""

    def handle(self):
        self.wfile.write(b"%d bytes" % len(self.rfile.read()))


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def target(
    handler: type[socketserver.BaseRequestHandler],
    family: socket.AddressFamily = socket.AF_INET,
    context: ssl.SSLContext | None = None,
) -> Iterator[int]:
    """The port of a server on the loopback interface, which speaks TLS if there is a `context`."""

    class Target(socketserver.ThreadingTCPServer):
        address_family = family

        def get_request(self):
            connection, address = super().get_request()
            if context is not None:
                connection.settimeout(PATIENCE)
                connection = context.wrap_socket(connection, server_side=True)
            return connection, address

        def shutdown_request(self, request):
            if isinstance(request, ssl.SSLSocket):
                with contextlib.suppress(OSError):
                    request.unwrap()  # its close_notify
            super().shutdown_request(request)

    with Target(("127.0.0.1" if family == socket.AF_INET else "::1", 0), handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
            thread.join()
