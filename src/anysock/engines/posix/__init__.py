"""What engines share that stand on real sockets. How to wait for one is each engine's own.

- `engine`: what their engines do alike;
- `machine`: the machine's names, addresses and room for descriptors;
- `streams`: a connected socket as a `Stream`;
- `listening`: sockets that listen;
- `datagrams`: UDP sockets;
- `signals`: signals, caught so that none is lost.
"""
