"""S7, answered: no more than so many clients.

A server that has no limit has the one of its descriptors, and meets it in
accept(), as an OSError. Who comes too many is told so, and goes.
"""

import contextlib
import socket
import sys


def accept(listener, unsent, limit):
    """Take the next client, if there is one."""
    with contextlib.suppress(BlockingIOError):
        connection, address = listener.accept()
        connection.setblocking(False)
        if len(unsent) == limit:
            with connection, contextlib.suppress(OSError):
                connection.send(b"come back later\r\n")
            return
        print(f"I got a connection from {address}!")
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


def main(host="127.0.0.1", port=8000, limit=100):
    unsent = {}  # what each client has still to get
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        while True:
            accept(listener, unsent, int(limit))
            for connection in list(unsent):
                if not echo(connection, unsent):
                    del unsent[connection]
                    connection.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
