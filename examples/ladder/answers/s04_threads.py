"""S4, answered: a thread for each client.

The thread that sleeps in recv() keeps nobody waiting but its own client. This
is the engine `threads` of Anysock, without its limits.
"""

import contextlib
import socket
import sys
import threading


def echo(connection):
    """Send back what comes, until the client ends its stream."""
    while data := connection.recv(65536):
        print(f"I got data: {data}!")
        connection.sendall(data)


def serve_one(connection, address):
    with connection:
        try:
            echo(connection)
        except OSError as error:  # a reset: it is gone, others are not
            print(f"{address} is gone: {error}")


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        while True:
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            # A daemon: the program may end while a client is still there.
            threading.Thread(
                target=serve_one, args=(connection, address), daemon=True
            ).start()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
