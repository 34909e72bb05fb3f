"""Connections to a TLS port that are no TLS, or not for long; and then: does the server live?

    python tests/soak/tls_fuzz.py --count 10000 [--engine selector]

starts a server, and tells its descriptors, threads and memory before and after. With --connect
HOST:PORT it does it to one that runs already, and tells nothing. The kinds, in turn: random bytes;
random bytes that begin as TLS does; a handshake that is cut off anywhere; one with bytes changed;
and one that is finished, and then broken. Some wait for an answer, some leave with a reset.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":  # so that it can be run as a program
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.harness import ServerProcess, reset

# A server has a second for its close: none may take longer than that to leave.
_PATIENCE = 3.0


class Fuzzer:
    """Makes bad clients. The same `seed` makes the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._older.check_hostname = False
        self._older.verify_mode = ssl.CERT_NONE
        self._older.maximum_version = ssl.TLSVersion.TLSv1_2
        self.kinds: list[Callable[[socket.socket], None]] = [
            self.random_bytes,
            self.random_record,
            self.cut_off,
            self.changed,
            self.finished_and_broken,
        ]

    def client(self, number: int, address: tuple[str, int]) -> None:
        """One bad client, of the kind that is its turn."""
        with socket.create_connection(address, timeout=_PATIENCE) as sock:
            # The server may close, or reset, at any moment.
            with contextlib.suppress(OSError):
                self.kinds[number % len(self.kinds)](sock)
                match self._random.randrange(3):
                    case 0:
                        sock.shutdown(socket.SHUT_WR)
                        while sock.recv(65536):
                            pass
                    case 1:
                        reset(sock)

    def random_bytes(self, sock: socket.socket) -> None:
        sock.sendall(self._random.randbytes(self._random.randrange(1, 2000)))

    def random_record(self, sock: socket.socket) -> None:
        size = self._random.randrange(0, 2000)
        kind = self._random.choice([20, 21, 22, 22, 22, 23])
        sock.sendall(bytes([kind, 3, self._random.randrange(5)]) + size.to_bytes(2, "big"))
        sock.sendall(self._random.randbytes(self._random.randrange(size + 1)))

    def cut_off(self, sock: socket.socket) -> None:
        said = self._shake_hands(sock, self._random.randrange(2))
        sock.sendall(said[: self._random.randrange(len(said) + 1)])

    def changed(self, sock: socket.socket) -> None:
        said = bytearray(self._shake_hands(sock, self._random.randrange(2)))
        for _ in range(self._random.randrange(1, 5)):
            said[self._random.randrange(len(said))] = self._random.randrange(256)
        sock.sendall(said)

    def finished_and_broken(self, sock: socket.socket) -> None:
        said = self._shake_hands(sock, 2)
        sock.sendall(said + self._random.randbytes(self._random.randrange(1, 200)))

    def _shake_hands(self, sock: socket.socket, turns: int) -> bytes:
        """Shake hands for so many turns; return what is to be said next."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = self._random.choice([self._context, self._older])
        tls = context.wrap_bio(incoming, outgoing)
        for turn in range(turns + 1):
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
            said = outgoing.read()
            if turn == turns or not said:
                break
            sock.sendall(said)
            incoming.write(sock.recv(65536))
        return said or b"\x17\x03\x03\x00\x20"


def run(host: str, port: int, count: int, seed: int) -> None:
    """`count` bad clients, one after the other."""
    fuzzer = Fuzzer(seed)
    for number in range(count):
        fuzzer.client(number, (host, port))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", default="selector")
    parser.add_argument("--connect", metavar="HOST:PORT")
    asked = parser.parse_args()
    if asked.connect:
        host, _, port = asked.connect.rpartition(":")
        run(host, int(port), asked.count, asked.seed)
        return
    from anysock.net.certificates import client_context
    from tests.pki import Pki
    from tests.tls_client import TlsClient

    with tempfile.TemporaryDirectory() as folder:
        pki = Pki(Path(folder))
        server = ServerProcess(
            "echo",
            *("--tls-cert", str(pki.server.cert), "--tls-key", str(pki.server.key)),
            *("--handshake-timeout", "2s", "--log-level", "error"),
            engine=asked.engine,
            bind="tls://127.0.0.1:0",
            python_flags=(),
        )
        try:
            run(server.host, server.port, 500, asked.seed + 1)  # so that what is kept is there
            server.wait_until_idle()

            def figures() -> str:
                return (
                    f"{server.fds()} descriptors, {server.threads()} threads, "
                    f"{server.memory() / 1e6:.1f} MB"
                )

            print(f"{asked.engine}, before: {figures()}")
            began = time.monotonic()
            run(server.host, server.port, asked.count, asked.seed)
            seconds = time.monotonic() - began
            server.wait_until_idle()
            print(f"after {asked.count} bad clients in {seconds:.0f} s: {figures()}")
            with TlsClient(server.connect(), client_context(pki.ca)) as client:
                assert client.echo(b"it lives") == b"it lives"
                client.send_eof()
                assert client.receive_all() == b""
            server.signal()
            code = server.wait()
            print(f"it served a good client, and ended with code {code}")
            assert code == 0, server.log
        finally:
            server.kill()


if __name__ == "__main__":
    main()
