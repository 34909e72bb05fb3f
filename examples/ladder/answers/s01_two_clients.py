"""S1, answered: two clients, one after the other."""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    # create_server() makes the socket, binds and listens. It also sets
    # SO_REUSEADDR: without that, the port can't be bound again for a minute
    # after a server that closed a connection first.
    with socket.create_server((host, int(port))) as listener:
        for _ in range(2):
            connection, address = listener.accept()
            with connection:  # closed at its end, which is what the client sees
                print(f"I got a connection from {address}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
