"""S5, answered: the third way, between the two.

settimeout(None) waits for ever, settimeout(0) not at all: that is what
setblocking() says. With seconds, it is a wait that gives up.
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000, seconds=2):
    with socket.create_server((host, int(port))) as listener:
        listener.settimeout(float(seconds))
        try:
            connection, address = listener.accept()
        except TimeoutError as error:
            print(f"TimeoutError: {error}")
            print(f"Nobody has connected within {seconds} s.")
        else:
            with connection:
                print(f"I got a connection from {address}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
