"""S2: read one line, two bytes at a time.

recv(2) returns up to two bytes: two, or one, or none at all when the client has
ended its stream. TCP carries bytes, not messages, so the end of a line may
stand anywhere in what a receive returns: in the middle of it, or with CR at the
end of one and LF at the beginning of the next.
"""

import contextlib
import socket
import sys

MAX_LINE = 65536  # a client that never ends its line must not fill our memory


def read_line(connection):
    """The first line, with its end; or what there is, if the client leaves."""
    line = bytearray()
    while len(line) < MAX_LINE:
        data = connection.recv(2)
        if not data:
            break
        print(f"I got data: {data}!")
        line += data
        # Looked for in the last three bytes only: to search the whole line at
        # each receive would take time that grows with the square of its length.
        # LF alone ends a line as well: not every client sends CR.
        end = line.find(b"\n", max(len(line) - 3, 0))
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
