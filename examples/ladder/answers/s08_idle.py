"""S8, answered: who is silent for too long is closed.

The selector sleeps no longer than until the first of them would be. That is how
timers come into a loop: they say how long it may sleep.
"""

import contextlib
import selectors
import socket
import sys
import time

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Server:
    def __init__(self, listener, seconds):
        self.seconds = seconds
        self.heard = {}  # when, by client: the first is silent for longest
        listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(listener, READ, self.accept)
        self.unsent = {}  # what each client has still to get

    def accept(self, listener):
        with contextlib.suppress(BlockingIOError):  # it has left meanwhile
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            connection.setblocking(False)
            self.unsent[connection] = b""
            self.heard[connection] = time.monotonic()
            self.selector.register(connection, READ, self.echo)

    def echo(self, connection):
        try:
            if not self.unsent[connection]:
                self.unsent[connection] = data = connection.recv(65536)
                if not data:
                    self.close(connection)
                    return
                print(f"I got data: {data}!")
                del self.heard[connection]  # it goes to the end of the row
                self.heard[connection] = time.monotonic()
            sent = connection.send(self.unsent[connection])
            self.unsent[connection] = self.unsent[connection][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.close(connection)
            return
        # Either we have something to send, and wait for room, or we wait for
        # more to come.
        wish = WRITE if self.unsent[connection] else READ
        self.selector.modify(connection, wish, self.echo)

    def close(self, connection):
        self.selector.unregister(connection)
        del self.unsent[connection], self.heard[connection]
        connection.close()

    def run(self):
        while True:
            for key, _ in self.selector.select(self.close_the_silent()):
                key.data(key.fileobj)

    def close_the_silent(self):
        """Close who is silent for too long; in how many seconds the next is."""
        for connection, heard in list(self.heard.items()):
            left = heard + self.seconds - time.monotonic()
            if left > 0:
                return left
            self.close(connection)
        return None


def main(host="127.0.0.1", port=8000, seconds=60):
    with socket.create_server((host, int(port))) as listener:
        Server(listener, float(seconds)).run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
