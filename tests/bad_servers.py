"""Servers that do wrong, each in its own way, for the clients that must notice."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

Handle = Callable[[socket.socket], None]


@contextlib.contextmanager
def bad_server(handle: Handle) -> Iterator[int]:
    """``handle(client)`` is called for each client, on a thread; gives the port."""
    clients: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            handle(client)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                clients.append(client)
                threads.append(threading.Thread(target=serve, args=(client,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for client in clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def corrupt(client: socket.socket) -> None:
    """One byte in each answer is another."""
    while data := client.recv(65536):
        client.sendall(data[:-1] + bytes([data[-1] ^ 1]))


def twice(client: socket.socket) -> None:
    """Everything comes back twice."""
    while data := client.recv(65536):
        client.sendall(data + data)


def half(client: socket.socket) -> None:
    """Half of the first message, and the end."""
    data = client.recv(65536)
    client.sendall(data[: len(data) // 2])


def silent(client: socket.socket) -> None:
    """Never an answer."""
    while client.recv(65536):
        pass


def close_at_once(_client: socket.socket) -> None:
    """The end, before anything was said."""


def reset_after_a_message(client: socket.socket) -> None:
    from tests.harness import reset

    # Of 64 bytes each: two that have come at once are two.
    client.sendall(client.recv(64))
    client.recv(64)
    reset(client)


def reorder(client: socket.socket) -> None:
    """Messages of 64 bytes, two by two, the second before the first."""
    data = b""
    while more := client.recv(65536):
        data += more
        while len(data) >= 128:
            client.sendall(data[64:128] + data[:64])
            data = data[128:]


def late_once(client: socket.socket) -> None:
    """The first answer comes with the second message."""
    held = client.recv(65536)
    while data := client.recv(65536):
        client.sendall(held + data)
        held = b""
