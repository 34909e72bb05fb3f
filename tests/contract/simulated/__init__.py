"""Time and order, which are the server's own: real server, real streams, simulated network."""
