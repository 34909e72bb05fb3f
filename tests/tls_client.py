"""A TLS client that can do what Python's `ssl.SSLSocket` can't: half-close, and leave rudely."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class TlsClient:
    """TLS over `sock`, with CPython's `ssl.SSLObject` and nothing of ours."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None = "localhost"
    ) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._until_done(self.tls.do_handshake)

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def send_eof(self) -> None:
        """close_notify. The server has not sent its own yet, and `unwrap` complains of that."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    def receive(self) -> bytes:
        """What there is; ``b""`` at the server's close_notify. Raises EOFError at the end of TCP,
        where there was none."""
        try:
            return bytes(self._until_done(self.tls.read, 65536))
        except ssl.SSLZeroReturnError:
            return b""

    def receive_exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            data = self.receive()
            assert data, f"the stream ended after {len(received)} of {size} bytes"
            received += data
        return bytes(received)

    def receive_all(self) -> bytes:
        received = bytearray()
        while data := self.receive():
            received += data
        return bytes(received)

    def echo(self, data: bytes) -> bytes:
        """`data`, sent, and as much received."""
        self.send(data)
        return self.receive_exactly(len(data))

    @property
    def certificate(self) -> bytes:
        """The server's, in DER."""
        found = self.tls.getpeercert(binary_form=True)
        assert found is not None
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    def _until_done(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                return operation(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError("the end of TCP, without close_notify") from None
                self._incoming.write(data)
            finally:
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.sock.sendall(self._outgoing.read())
