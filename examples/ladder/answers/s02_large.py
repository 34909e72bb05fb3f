"""S2, answered: more at a time.

A receive returns what has come so far, whatever it asks for: a line that is
sent in two pieces may come in two, and two lines in one.
"""

import contextlib
import socket
import sys

MAX_LINE = 65536  # a client that never ends its line must not fill our memory


def read_line(connection):
    """The first line, with its end; or what there is, if the client leaves."""
    line = bytearray()
    while len(line) < MAX_LINE:
        data = connection.recv(65536)
        if not data:
            break
        print(f"I got data: {data}!")
        line += data
        end = line.find(b"\n", len(line) - len(data))  # in what is new
        if end >= 0:
            return bytes(line[: end + 1])
    return bytes(line)


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            print(f"All the data is: {read_line(connection)}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
