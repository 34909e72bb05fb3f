"""S8, answered: waiting for room, always.

A socket with room in its buffer is writable all the time. Who waits for that
and has nothing to send does not wait at all: select() returns at once, for
ever.
"""

import contextlib
import selectors
import socket
import sys

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Server:
    def __init__(self, listener):
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
            self.selector.register(connection, READ, self.echo)

    def echo(self, connection):
        try:
            if not self.unsent[connection]:
                self.unsent[connection] = data = connection.recv(65536)
                if not data:
                    self.close(connection)
                    return
                print(f"I got data: {data}!")
            sent = connection.send(self.unsent[connection])
            self.unsent[connection] = self.unsent[connection][sent:]
        except BlockingIOError:
            pass
        except OSError:
            self.close(connection)
            return
        self.selector.modify(connection, READ | WRITE, self.echo)

    def close(self, connection):
        self.selector.unregister(connection)
        del self.unsent[connection]
        connection.close()

    def run(self):
        while True:
            events = self.selector.select(timeout=1)
            if not events:
                print("No events, waiting a bit more!")
            for key, _ in events:
                key.data(key.fileobj)


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        Server(listener).run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
