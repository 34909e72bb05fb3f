"""S6, naive: the server for many clients, with its sockets set non-blocking.

Nothing sleeps any more, so nothing waits for a client either: the very first
accept() ends the program, with a traceback.
(test_ladder.py::test_the_naive_nonblocking_server_dies_at_once)
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        connections = []
        while True:
            connection, address = listener.accept()
            connection.setblocking(False)
            print(f"I got a connection from {address}!")
            connections.append(connection)
            for connection in connections:
                connection.send(connection.recv(65536))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
