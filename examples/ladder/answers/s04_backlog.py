"""S4, answered: a queue with one place.

While one client is served, one more is queued, and connected. The system drops
what the next one sends to connect; it tries again after a second, and after two
more, and so on.
"""

import contextlib
import socket
import sys


def echo(connection):
    """Send back what comes, until the client ends its stream."""
    while data := connection.recv(65536):
        print(f"I got data: {data}!")
        connection.sendall(data)


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port)), backlog=0) as listener:
        while True:
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            with connection:
                try:
                    echo(connection)
                except OSError as error:  # a reset: it is gone, others are not
                    print(f"{address} is gone: {error}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
