"""S5, answered: ask again until somebody is there.

Between two questions the program could do something else. If it has nothing to
do, it sleeps: a client waits for a tenth of a second at most.
"""

import contextlib
import socket
import sys
import time


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                time.sleep(0.1)
            else:
                break
        with connection:
            print(f"I got a connection from {address}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
