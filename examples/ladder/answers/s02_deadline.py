"""S2, answered: a client has so many seconds for its line.

settimeout() counts for one receive. A client that sends a byte now and then
would never be late: so what is left of the time is told anew for each.
"""

import contextlib
import socket
import sys
import time

MAX_LINE = 65536  # a client that never ends its line must not fill our memory


def read_line(connection, seconds):
    """The first line, with its end; or what there is, if the client leaves.
    Raises TimeoutError when it takes longer than `seconds`."""
    line = bytearray()
    late = time.monotonic() + seconds
    while len(line) < MAX_LINE:
        left = late - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        data = connection.recv(2)
        if not data:
            break
        print(f"I got data: {data}!")
        line += data
        end = line.find(b"\n", max(len(line) - 3, 0))
        if end >= 0:
            return bytes(line[: end + 1])
    return bytes(line)


def main(host="127.0.0.1", port=8000, seconds=5):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            try:
                line = read_line(connection, float(seconds))
            except TimeoutError:
                print("It took too long.")
            else:
                print(f"All the data is: {line}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
