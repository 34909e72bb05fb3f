"""S5, answered: a connect that does not block.

It can't be done at once: the other side has to answer. So connect(2) says
EINPROGRESS, and the socket is writable as soon as it is decided. How it was
decided, SO_ERROR says.
"""

import contextlib
import errno
import os
import select
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.socket() as connection:
        connection.setblocking(False)
        code = connection.connect_ex((host, int(port)))
        print(f"connect: {errno.errorcode.get(code, code)}")
        select.select([], [connection], [])
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        print("Connected." if code == 0 else os.strerror(code))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
