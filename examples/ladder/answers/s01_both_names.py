"""S1, answered: a connection has two names.

Each end has an address and a port, and the four together tell this connection
from all others. Our own port is that of the listener.
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    # create_server() makes the socket, binds and listens. It also sets
    # SO_REUSEADDR: without that, the port can't be bound again for a minute
    # after a server that closed a connection first.
    with socket.create_server((host, int(port))) as listener:
        connection, _ = listener.accept()
        with connection:
            print(f"The listener is {listener.getsockname()}.")
            print(f"Here, the connection is {connection.getsockname()},")
            print(f"and there, {connection.getpeername()}.")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
