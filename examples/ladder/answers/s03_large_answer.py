"""S3, answered: an answer that no buffer takes.

sendall() returns when the system has taken all bytes, and it takes no more than
its buffers hold, ours and the client's. So it sleeps until the client reads.
"""

import contextlib
import socket
import sys

MAX_LINE = 65536
PATIENCE = 1.0  # seconds that a client has to see our end


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


def hang_up(connection):
    """End the connection so that what was sent arrives."""
    connection.settimeout(PATIENCE)
    with contextlib.suppress(OSError):  # the client has left, or takes its time
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connection, address = listener.accept()
        with connection:
            print(f"I got a connection from {address}!")
            line = read_line(connection)
            print(f"All the data is: {line}", flush=True)
            connection.sendall(line * (50_000_000 // len(line)))
            print("All of it is sent.")
            hang_up(connection)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
