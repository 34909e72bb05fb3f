"""SIGHUP, again and again, under load: how many are refused or dropped? None."""

from __future__ import annotations

import argparse
import signal
import threading
import time

from tests.contract.processes.test_workers import workers_of
from tests.harness import receive_exactly, wait_until
from tests.soak.watching import end, serving, tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reloads", type=int, default=5)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", default="selector")
    asked = parser.parse_args()
    over = threading.Event()
    answered, connected = [0], [0]
    refused: list[Exception] = []
    dropped: list[Exception] = []

    def talk(server, messages: int | None) -> None:
        while not over.is_set():
            try:
                client = server.connect(timeout=30)
                connected[0] += 1
            except OSError as error:
                refused.append(error)
                continue
            with client:
                try:
                    left = messages
                    while not over.wait(0.001) and left != 0:
                        client.sendall(b"hello")
                        receive_exactly(client, 5)
                        answered[0] += 1
                        left = None if left is None else left - 1
                except (OSError, AssertionError) as error:
                    dropped.append(error)

    options = ("--workers", str(asked.workers), "--log-level", "info", "--no-access-log")
    with serving("echo", *options, engine=asked.engine) as server:
        wait_until(lambda: len(workers_of(server)) == asked.workers, "all workers are there")
        # Some stay, some come and go.
        threads = [
            threading.Thread(target=talk, args=(server, None if number % 2 else 5))
            for number in range(asked.connections)
        ]
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        for turn in range(1, asked.reloads + 1):
            server.signal(signal.SIGHUP)
            server.wait_for("takes the place of", times=turn * asked.workers, seconds=60)
        took = time.monotonic() - begun
        over.set()
        for thread in threads:
            thread.join()
        tell(
            reloads=asked.reloads,
            seconds=round(took, 1),
            connected=connected[0],
            answered=answered[0],
            refused=len(refused),
            dropped=len(dropped),
        )
    end(*map(repr, refused + dropped))


if __name__ == "__main__":
    main()
