"""S7, answered: with a nap after each sweep.

The core is free again, and each answer comes up to 10 ms later. The more
clients there are, the more is asked in vain: that stays.
"""

import contextlib
import socket
import sys
import time


def accept(listener, unsent):
    """Take the next client, if there is one."""
    with contextlib.suppress(BlockingIOError):
        connection, address = listener.accept()
        print(f"I got a connection from {address}!")
        connection.setblocking(False)
        unsent[connection] = b""


def echo(connection, unsent):
    """Move what can be moved; whether the client is still there."""
    try:
        if not unsent[connection]:
            unsent[connection] = data = connection.recv(65536)
            if not data:
                return False
            print(f"I got data: {data}!")
        sent = connection.send(unsent[connection])
        unsent[connection] = unsent[connection][sent:]
    except BlockingIOError:
        pass  # nothing to receive, or no room to send
    except OSError:
        return False  # a reset
    return True


def main(host="127.0.0.1", port=8000):
    unsent = {}  # what each client has still to get
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            accept(listener, unsent)
            for connection in list(unsent):
                if not echo(connection, unsent):
                    del unsent[connection]
                    connection.close()
            time.sleep(0.01)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
