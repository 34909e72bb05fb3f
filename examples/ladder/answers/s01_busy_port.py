"""S1, answered: one line when the port is taken.

Only one program may listen at a port. bind(2) says EADDRINUSE to the second.
"""

import contextlib
import os
import socket
import sys


def main(host="127.0.0.1", port=8000):
    # create_server() makes the socket, binds and listens. It also sets
    # SO_REUSEADDR: without that, the port can't be bound again for a minute
    # after a server that closed a connection first.
    try:
        listener = socket.create_server((host, int(port)))
    except OSError as error:
        sys.exit(
            f"can't listen at {host}, port {port}: {os.strerror(error.errno)}"
        )
    with listener:
        connection, address = listener.accept()
        with connection:  # closed at its end, which is what the client sees
            print(f"I got a connection from {address}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
