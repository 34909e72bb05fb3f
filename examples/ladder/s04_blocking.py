"""S4: many clients, on blocking sockets: one after the other.

recv() sleeps until its client says something, and while it sleeps nothing else
runs. So the second client waits until the first one leaves, even if that never
says a word. That is not a mistake of this program; it is what one thread with
blocking sockets can do. The second client does not notice at first: the system
completes its connection, and queues it in the backlog of the listener.
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
    with socket.create_server((host, int(port))) as listener:
        while True:
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            with connection:
                try:
                    echo(connection)
                except OSError as error:  # a reset: it is gone, others are not
                    print(f"{address} is gone: {error}")
            # `connection` still names the closed socket; with a list of
            # connections, or a traceback, it would keep an open one.


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
