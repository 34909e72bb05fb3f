"""What streams without a socket have none of, for the streams that tests make themselves."""

from __future__ import annotations

from anysock.engines.base import Keepalive


class NoSocket:
    """No vector, no file, no credentials, and no keepalive."""

    vectored = False
    peer_credentials = None

    def send_file(self, fd: int, offset: int, count: int) -> None:
        return None

    def break_sending(self) -> None:
        raise NotImplementedError

    def set_keepalive(self, keepalive: Keepalive | None) -> None:
        """Nothing watches over the peer."""
