"""What engines share that stand on real sockets. How to wait for one is each engine's own.

- `streams`: a connected socket as a `Stream`;
- `listening`: sockets that listen;
- `datagrams`: UDP sockets;
- `signals`: signals, caught so that none is lost.
"""
