"""S6, answered: sleep until there is something.

select(2) sleeps until one of the sockets is ready that it is given. It is the
seed of what S8 does with all of them.
"""

import contextlib
import select
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            select.select([connection], [], [])
            print(f"I got data: {connection.recv(65536)}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
