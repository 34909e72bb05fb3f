"""S5: a listening socket that does not block.

setblocking(False) changes what accept() does when nobody is there: it does not
sleep, it returns at once, and the only way to say "nobody" is an error.
BlockingIOError does not mean that something went wrong. It means: this would
have blocked.
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        try:
            connection, address = listener.accept()
        except BlockingIOError as error:
            print(f"BlockingIOError: {error}")
            print("Nobody has connected yet, and it does not wait.")
        else:
            with connection:
                print(f"I got a connection from {address}!")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
