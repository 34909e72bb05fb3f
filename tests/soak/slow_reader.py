"""A client that sends much and does not read, and then reads all: what does the server hold?"""

from __future__ import annotations

import argparse
import threading
import time

from tests.harness import send_until_stuck
from tests.soak.watching import Bystander, end, serving, tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=50, help="MiB")
    parser.add_argument("--engine", default="selector")
    asked = parser.parse_args()
    total = asked.size * 2**20
    with (
        serving("echo", "--log-level", "warning", engine=asked.engine) as server,
        server.connect() as client,
    ):
        before = server.memory()
        with Bystander(server, time.monotonic) as bystander:
            stuck = send_until_stuck(client, total)
            grown = server.memory() - before
            tell(stuck_after_MiB=round(stuck / 2**20, 1), grown_MiB=round(grown / 2**20, 2))
            client.settimeout(60)
            block = b"x" * 65536

            def send_rest() -> None:
                left = total - stuck
                while left:
                    left -= client.send(block[:left])

            sender = threading.Thread(target=send_rest)
            sender.start()
            received, most = 0, 0
            while received < total:
                received += len(client.recv(20_000))
                if received % 100 == 0:
                    most = max(most, server.memory() - before)
            sender.join()
        tell(received_MiB=round(received / 2**20, 1), grown_at_most_MiB=round(most / 2**20, 2))
        print(bystander.told())
        figures = server.figures()
        pauses = figures["anysock_reading_pauses_total"]
        resumes = figures["anysock_reading_resumes_total"]
        tell(pauses=int(pauses), resumes=int(resumes))
    end(*(["pauses and resumes differ"] if pauses != resumes else []))


if __name__ == "__main__":
    main()
