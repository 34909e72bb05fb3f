"""Round trips through an echo server, one by one, reported as ping(8) does.

- `plan`: what to send, and when;
- `pinger`: sends the probes when they are due;
- `links`: the connection, or the UDP socket, on which they go;
- `statistics`: what is counted;
- `output`: the lines that are printed.
"""
