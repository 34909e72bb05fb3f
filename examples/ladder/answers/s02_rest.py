"""S2, answered: two lines, and nothing lost between them.

What stands behind the end of the first line belongs to the second. So it is
kept, in a buffer that both calls share.
"""

import contextlib
import socket
import sys

MAX_LINE = 65536  # a client that never ends its line must not fill our memory


def read_line(connection, buffer):
    """The next line, with its end; or what there is, if the client leaves. What
    comes behind it stays in `buffer`."""
    begin = 0
    while (end := buffer.find(b"\n", begin)) < 0 and len(buffer) < MAX_LINE:
        begin = len(buffer)
        data = connection.recv(65536)
        if not data:
            break
        print(f"I got data: {data}!")
        buffer += data
    size = end + 1 if end >= 0 else min(len(buffer), MAX_LINE)
    line = bytes(buffer[:size])
    del buffer[:size]
    return line


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            buffer = bytearray()
            for _ in range(2):
                print(f"The next line is: {read_line(connection, buffer)}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
