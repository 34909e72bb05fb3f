"""S6, answered: what a client can be sent that does not read.

send() takes what there is room for: in our system's buffer, and in that of the
client's. Then it would block, and says so.
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent += connection.send(bytes(65536))
            print(f"{sent} bytes fit.")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
