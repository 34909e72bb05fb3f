"""S6, answered: one call that does not block, on a socket that does.

MSG_DONTWAIT is for a single recv() or send() (recv(2)). The socket stays as it
is: the next call sleeps.
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            try:
                data = connection.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                print("The client has said nothing yet.")
                data = connection.recv(65536)
            print(f"I got data: {data}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
