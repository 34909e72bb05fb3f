"""Many connections held at once, and each echoed."""

from __future__ import annotations

import argparse
import selectors
import socket
import time

from tests.soak.watching import end, raise_descriptor_limit, serving, tell

_AT_ONCE = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--engine", default="selector")
    asked = parser.parse_args()
    raise_descriptor_limit()
    with serving("echo", "--log-level", "warning", engine=asked.engine) as server:
        before = server.look()
        tell(before=before)
        begun = time.monotonic()
        clients = [server.connect(timeout=30) for _ in range(asked.count)]
        tell(connected=len(clients), seconds=round(time.monotonic() - begun, 2))
        for turn in (1, 2):
            begun = time.monotonic()
            echoed = sum(
                echo(clients[start : start + _AT_ONCE], start)
                for start in range(0, len(clients), _AT_ONCE)
            )
            tell(turn=turn, echoed=echoed, seconds=round(time.monotonic() - begun, 2))
        held = server.look()
        figures = server.figures()
        per = (held["MiB"] - before["MiB"]) * 2**20 / asked.count
        tell(held=held, open=figures["anysock_connections_open"], bytes_a_connection=round(per))
        for client in clients:
            client.close()
        server.wait_until_idle()
        tell(after=server.look())
    end(*([f"{echoed} of {asked.count} were echoed"] if echoed != asked.count else []))


def echo(clients: list[socket.socket], first: int) -> int:
    """Ask all of them at once; how many were answered rightly."""
    right = 0
    with selectors.DefaultSelector() as selector:
        for number, client in enumerate(clients, first):
            client.sendall(b"%8d" % number)
            selector.register(client, selectors.EVENT_READ, number)
        while selector.get_map():
            ready = selector.select(30)
            assert ready, "no answer in 30 s"
            for key, _ in ready:
                selector.unregister(key.fileobj)
                assert isinstance(key.fileobj, socket.socket)
                right += key.fileobj.recv(100) == b"%8d" % key.data
    return right


if __name__ == "__main__":
    main()
