"""Workers killed at random under connections; then one connects, as if nothing had been."""

from __future__ import annotations

import argparse
import os
import random
import signal
import threading
import time

from tests.contract.processes.test_workers import workers_of
from tests.harness import receive_exactly, wait_until
from tests.soak.watching import end, serving, tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    over = threading.Event()
    answered, lost, refused = [0], [0], [0]

    def talk(server) -> None:
        while not over.is_set():
            try:
                client = server.connect(timeout=30)
            except OSError:
                refused[0] += 1
                continue
            with client:
                try:
                    while not over.wait(0.01):
                        client.sendall(b"hello")
                        receive_exactly(client, 5)
                        answered[0] += 1
                except (OSError, AssertionError):
                    lost[0] += 1

    options = ("--workers", str(asked.workers), "--log-level", "error")
    with serving("echo", *options) as server:
        wait_until(lambda: len(workers_of(server)) == asked.workers, "all workers are there")
        threads = [threading.Thread(target=talk, args=(server,)) for _ in range(asked.connections)]
        for thread in threads:
            thread.start()
        begun, killed = time.monotonic(), 0
        while time.monotonic() - begun < asked.seconds:
            # Each has lived for a while by then: these are no workers that can't begin.
            time.sleep(chance.uniform(1.0, 2.0))
            alive = workers_of(server)
            if alive:
                os.kill(chance.choice(alive), signal.SIGKILL)
                killed += 1
        over.set()
        for thread in threads:
            thread.join()
        tell(killed=killed, answered=answered[0], lost=lost[0], refused=refused[0])
        alive_yet = server.process.poll() is None
        echoed = server.ask(b"and now?") if alive_yet else b""
        wait_until(
            lambda: server.figures()["anysock_connections_open"] == 0, "the slots are free again"
        )
        tell(then=echoed, workers=len(workers_of(server)))
    failures = [] if echoed == b"and now?" else ["nobody is served any more"]
    failures += [f"{refused[0]} were refused"] if refused[0] else []
    end(*failures)


if __name__ == "__main__":
    main()
