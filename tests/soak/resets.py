"""Clients that send and reset, so many a second, beside a bystander who is served."""

from __future__ import annotations

import argparse
import time

from tests.harness import reset
from tests.soak.watching import Bystander, end, serving, tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--engine", default="selector")
    asked = parser.parse_args()
    with serving("echo", "--log-level", "warning", engine=asked.engine) as server:
        before = server.look()
        done = 0
        with Bystander(server, time.monotonic) as bystander:
            begun = time.monotonic()
            while (now := time.monotonic() - begun) < asked.seconds:
                if done > now * asked.rate:
                    time.sleep(done / asked.rate - now)
                client = server.connect(timeout=30)
                client.sendall(b"x" * 1000)
                reset(client)
                done += 1
            took = time.monotonic() - begun
        tell(resets=done, a_second=round(done / took))
        print(bystander.told())
        server.wait_until_idle()
        tell(before=before, after=server.look())
        lost = server.figures()['anysock_connections_closed_total{reason="lost"}']
        tell(closed_as_lost=int(lost))
    end(*([repr(bystander.failure)] if bystander.failure else []))


if __name__ == "__main__":
    main()
