"""S3, answered: closed too early.

What the client said behind its line is unread when the socket is closed. So
close(2) sends a reset, and not an end.
"""

import contextlib
import socket
import sys

MAX_LINE = 65536


def read_line(connection):
    """The first line, with its end; or what there is, if the client leaves."""
    line = bytearray()
    while len(line) < MAX_LINE and (data := connection.recv(2)):
        print(f"I got data: {data}!")
        line += data
        end = line.find(b"\n", max(len(line) - 3, 0))
        if end >= 0:
            return bytes(line[: end + 1])
    return bytes(line)


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            line = read_line(connection)
            print(f"All the data is: {line}")
            connection.sendall(b"Buffer: " + line)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
