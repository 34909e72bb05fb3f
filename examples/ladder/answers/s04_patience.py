"""S4, answered: who is silent for too long makes room.

A blocking socket may have a time limit: recv() raises TimeoutError after it,
which is an OSError.
"""

import contextlib
import socket
import sys


def echo(connection):
    """Send back what comes, until the client ends its stream."""
    while data := connection.recv(65536):
        print(f"I got data: {data}!")
        connection.sendall(data)


def main(host="127.0.0.1", port=8000, seconds=5):
    with socket.create_server((host, int(port))) as listener:
        while True:
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            with connection:
                connection.settimeout(float(seconds))
                try:
                    echo(connection)
                except OSError as error:  # a reset, or silence
                    print(f"{address} is gone: {error}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
