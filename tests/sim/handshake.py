"""Say in one line what TLS sends, by the seed that is given: both ways, from the first byte on."""

from __future__ import annotations

import random
import ssl
import sys
from pathlib import Path

from anysock.engines.sim.tls_chance import seeded

CERTIFICATE = Path(__file__).parents[2] / "src" / "anysock" / "sim" / "not_secret.pem"


def bytes_of_tls(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[bytes, bytes]:
    """What the client sends, and what the server does, when the server echoes."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(CERTIFICATE)
    serving.num_tickets = 0
    serving.options |= ssl.OP_NO_TICKET
    calling = ssl.create_default_context(cafile=CERTIFICATE)
    calling.maximum_version = version
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = calling.wrap_bio(to_client, up, server_hostname="server")
    server = serving.wrap_bio(to_server, down, server_side=True)
    said = b"", b""

    def carry() -> None:
        nonlocal said
        there, back = up.read(), down.read()
        to_server.write(there)
        to_client.write(back)
        said = said[0] + there, said[1] + back

    for _ in range(3):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            carry()
    client.write(b"hello")
    carry()
    server.write(server.read(100))
    carry()
    assert client.read(100) == b"hello"
    return said


if __name__ == "__main__":
    stream = random.Random(sys.argv[1])
    with seeded(lambda: stream) as exact:
        print(exact, *(each.hex() for each in bytes_of_tls()))
