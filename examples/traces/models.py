"""Three clients at once, under an I/O model: who is served when, and who waits.

    python examples/traces/models.py threads threads.jsonl

Each client says something, waits for the answer, thinks for a while, and says something more. What
the handler does for it takes 15 ms, in which it does not give up its thread: a call of a library
that blocks.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from pathlib import Path

import anysock
from anysock.traces.format import head_of
from anysock.traces.writer import TraceWriter

WORK, THINK, LATER = 0.015, 0.04, 0.005


class Recording:
    """What client and handler tell, on whatever thread, in the order of time."""

    def __init__(self) -> None:
        self._zero = time.monotonic()
        self._told: list[tuple[int, str, str]] = []

    def tell(self, client: str, what: str) -> None:
        self._told.append((round((time.monotonic() - self._zero) * 1e9), client, what))

    def write(self, path: Path, engine: str) -> None:
        writer = TraceWriter(path)
        began = "2026-01-01T00:00:00+00:00"  # it is the same whenever it is recorded
        title = f"Three clients under {engine}"
        writer.line(head_of("code", engine, title, began=began, version=anysock.__version__))
        for t, client, what in sorted(self._told):
            writer.event(t, "mark", host=client, what=what)
        writer.close(max(t for t, _, _ in self._told))


def client(name: str, port: int, after: float, recording: Recording) -> None:
    time.sleep(after)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for number in range(2):
            if number:
                time.sleep(THINK)
            recording.tell(name, "asks")
            sock.sendall(name.encode())
            sock.recv(16)
            recording.tell(name, "is answered")


def record(engine: str) -> Recording:
    recording = Recording()

    async def handler(connection: anysock.Connection) -> None:
        async for chunk in connection:
            if chunk == b"end":
                await connection.server.end()
                return
            name = chunk.decode()
            recording.tell(name, "is worked for")
            time.sleep(WORK)
            recording.tell(name, "is done")
            await connection.send_all(chunk)

    def all_clients(port: int) -> None:
        threads = [
            threading.Thread(target=client, args=(name, port, number * LATER, recording))
            for number, name in enumerate("ABC")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"end")
            last.recv(1)

    async def main() -> None:
        server = anysock.Server(handler, bind="127.0.0.1:0")
        await server.start()
        port = int(server.addresses[0].rpartition(":")[2])
        clients = threading.Thread(target=all_clients, args=(port,))
        clients.start()
        await server.serve_forever()
        clients.join()

    anysock.run(main, engine=engine)
    return recording


if __name__ == "__main__":
    record(sys.argv[1]).write(Path(sys.argv[2]), sys.argv[1])
