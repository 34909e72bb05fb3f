"""A proxy that speaks TLS for servers that do not; which server, the name decides that the client
asks for (SNI, RFC 6066).

    python tls_proxy.py -b tls://127.0.0.1:8443 --tls-cert cert.pem --tls-key key.pem \\
        --to 127.0.0.1:8000 --route api.example.org=127.0.0.1:8001

Of several --tls-cert, a client is shown the one for that name, too.

With tls:// before its address, TLS is spoken with a server as well; --to-ca has the authorities
that are trusted then. With --send-proxy, a server is told who the client is (PROXY protocol, 1).

Bytes go both ways until both sides have ended: a half-close is carried over, and a reset as well. A
side that does not read holds the other one up, so that little is kept in memory. What has gone to
each server is logged at the end.
"""

import argparse
import collections
import logging
import ssl
import threading

import anysock

CONNECT_SECONDS = 5

log = logging.getLogger("anysock.tls_proxy")


class Totals:
    """What has gone to each server, and come from it."""

    def __init__(self) -> None:
        self.by_server: dict[str, collections.Counter[str]] = {}
        self._lock = threading.Lock()  # under `threads`, each connection has a thread

    def add(self, address: str, **more: int) -> None:
        with self._lock:
            self.by_server.setdefault(address, collections.Counter()).update(more)

    def tell(self) -> None:
        for address, n in sorted(self.by_server.items()):
            log.info(
                "%s: %d connections, %d failed; %d bytes there, %d back",
                *(address, n["connections"], n["failed"], n["there"], n["back"]),
            )


class Proxy:
    """`routes` has a server's address for each name; "" is that of all other names, and of none."""

    def __init__(
        self, routes: dict[str, str], context: ssl.SSLContext | None, *, send_header: bool
    ) -> None:
        self.routes = routes
        self.context = context
        self.send_header = send_header
        self.totals = Totals()

    async def serve(self, client: anysock.Connection) -> None:
        name = client.tls.server_name if client.tls else None
        address = self.routes.get((name or "").lower(), self.routes.get(""))
        if address is None:
            log.warning("%s asks for %s, which is not served", client.peer, name or "no name")
            client.abort()  # a mere end would look like an answer
            return
        try:
            async with anysock.timeout(CONNECT_SECONDS):
                server = await self.connect(address, client)
        except OSError as error:
            log.warning("%s: %s", address, error)
            self.totals.add(address, failed=1)
            client.abort()
            return
        async with server:
            before = server.bytes_sent
            try:
                await anysock.relay(client, server)
            finally:
                there, back = server.bytes_sent - before, server.bytes_received
                self.totals.add(address, connections=1, there=there, back=back)

    async def connect(self, address: str, client: anysock.Connection) -> anysock.Connection:
        """Connect to a server, and let it know whom it is for: before TLS, which is ours."""
        server = await anysock.connect(address.replace("tls://", "tcp://"))
        try:
            server.keepalive()
            if self.send_header:
                await server.send_all(header(client))
            if address.startswith("tls://"):
                await server.start_tls(self.context, server_side=False)
        except BaseException:
            server.abort()
            await server.close()
            raise
        return server


def header(client: anysock.Connection) -> bytes:
    """Who the client is: PROXY protocol, version 1."""
    if not isinstance(client.peer, tuple) or not isinstance(client.local, tuple):
        return b"PROXY UNKNOWN\r\n"  # it has come by a Unix socket
    (source, source_port), (target, target_port) = client.peer[:2], client.local[:2]
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {target} {source_port} {target_port}\r\n".encode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(";")[0])
    parser.add_argument("-b", "--bind", default="tls://127.0.0.1:8443")
    parser.add_argument("-e", "--engine", default="selector")
    parser.add_argument("--tls-cert", metavar="FILE", action="append", required=True)
    parser.add_argument("--tls-key", metavar="FILE", action="append")
    parser.add_argument("--to", metavar="ADDRESS", help="for all names without a route")
    parser.add_argument("--route", metavar="NAME=ADDRESS", action="append", default=[])
    parser.add_argument("--to-ca", metavar="FILE")
    parser.add_argument("--send-proxy", action="store_true")
    options = vars(parser.parse_args())
    routes = dict(each.lower().split("=", 1) for each in options.pop("route"))
    if default := options.pop("to"):
        routes[""] = default
    ca = options.pop("to_ca")
    context = ssl.create_default_context(cafile=ca) if ca else None
    proxy = Proxy(routes, context, send_header=options.pop("send_proxy"))
    anysock.serve(proxy.serve, **options)
    proxy.totals.tell()
