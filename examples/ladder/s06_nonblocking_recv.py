"""S6: a connection that does not block.

What accept() hands out is a new socket, and blocks unless it is told not to:
the setting of the listener is not handed on. recv() on it then says
BlockingIOError as long as the client is silent.
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            print("Does it block?", "yes" if connection.getblocking() else "no")
            connection.setblocking(False)
            try:
                data = connection.recv(65536)
            except BlockingIOError as error:
                print(f"BlockingIOError: {error}")
                print("The client has said nothing yet.")
            else:
                print(f"I got data: {data}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
