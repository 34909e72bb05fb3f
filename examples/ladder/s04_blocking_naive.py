"""S4, naive: many clients, on blocking sockets, in one loop.

It looks as if it served everybody. What goes wrong:

- After the first line the loop sleeps in accept(): a client is heard again only
  when another one connects.
  (test_ladder.py::test_the_naive_loop_hears_a_client_only_when_another_connects)
- While it waits for a line of the first client, nobody else is heard.
- A client that leaves is never taken out: recv() returns b"" at once, again and
  again, and the loop spins with a whole core for ever.
  (test_ladder.py::test_the_naive_loop_spins_when_a_client_leaves)
"""

import contextlib
import socket
import sys


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        connections = []
        while True:
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            connections.append(connection)
            for connection in connections:
                buffer = b""
                while buffer[-2:] != b"\r\n":
                    buffer += connection.recv(2)
                print(f"All the data is: {buffer}")
                connection.send(buffer)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
