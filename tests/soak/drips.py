"""Clients that send a byte now and then: never idle, and worth nothing. --min-rate ends them."""

from __future__ import annotations

import argparse
import contextlib
import time

from tests.soak.watching import Bystander, end, raise_descriptor_limit, serving, tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--engine", default="selector")
    asked = parser.parse_args()
    raise_descriptor_limit()
    limits = ("--idle-timeout", "2s", "--min-rate", "10")
    with serving("echo", *limits, "--log-level", "error", engine=asked.engine) as server:
        before = server.look()
        with Bystander(server, time.monotonic) as bystander:
            clients = [server.connect(timeout=30) for _ in range(asked.count)]
            begun = time.monotonic()
            tell(held=server.look())
            # A byte each half of a second: never idle for 2 s, and with the echo 4 bytes a second.
            left = set(clients)
            while left and time.monotonic() - begun < 30:
                for client in list(left):
                    with contextlib.suppress(BlockingIOError):
                        client.setblocking(False)
                        try:
                            client.send(b"x")
                            while client.recv(100):
                                pass
                            left.discard(client)
                        except OSError as error:
                            if isinstance(error, BlockingIOError):
                                raise
                            left.discard(client)
                time.sleep(0.5)
            tell(ended=asked.count - len(left), seconds=round(time.monotonic() - begun, 1))
            for client in clients:
                client.close()
        print(bystander.told())
        server.wait_until_idle()
        slow = server.figures()['anysock_connections_closed_total{reason="too_slow"}']
        tell(closed_as_too_slow=int(slow), before=before, after=server.look())
    end(*([f"{len(left)} are still there"] if left else []))


if __name__ == "__main__":
    main()
