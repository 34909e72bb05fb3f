"""A simulated network: streams in memory, a machine that has one address, a clock that jumps.

It stands on the contract of the engines alone, and so shows that nothing of a server reaches past
it: not a socket is opened.
"""

from __future__ import annotations

import collections
import itertools
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from anysock.engines.base import Binding, Data, Missing, ResolvedName, SockAddr
from anysock.engines.stream_state import StreamState
from anysock.errors import ListenerClosed
from tests.no_socket import NoSocket
from tests.virtual import VirtualEngine

T = TypeVar("T")

HOST = "192.0.2.1"


class SimulatedMachine:
    """One host, with one address and 1,000 descriptors."""

    def resolve(self, host: str | None, port: int, *, passive: bool) -> ResolvedName:
        return ((socket.AF_INET, (HOST, port)),)

    def without_missing(self, binding: Binding) -> tuple[Binding, list[Missing]]:
        return binding, []

    def is_ours(self, source: SockAddr) -> bool:
        return source[0] == HOST

    def free_descriptors(self) -> int | None:
        return 1000

    def memory(self) -> int:
        return 1 << 30

    def resident(self) -> int | None:
        return None


class SimulatedStream(NoSocket):
    """One end of a connection. What is sent arrives after a while that chance decides."""

    tls: Any = None
    receiving = sending = False

    def __init__(self, engine: SimulatedEngine, local: SockAddr, peer: SockAddr) -> None:
        self.local, self.peer = local, peer
        self.bytes_received = self.bytes_sent = self.held = 0
        self.other: SimulatedStream | None = None
        self._engine = engine
        self._state = StreamState()
        self._arrived: collections.deque[bytes] = collections.deque()
        self._ended = False
        self._news = engine.event()

    @property
    def lost(self) -> OSError | None:
        return self._state.lost

    def progress(self) -> int:
        return self.bytes_sent

    def set_recv_size(self, max_bytes: int) -> None:
        pass

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self.receiving = True
        try:
            while not self._arrived:
                self._state.check_receive()
                if self._ended or self._state.lost:
                    self._state.meet_end()
                    return b""
                self._news = self._engine.event()
                await self._news.wait()
            self._state.check_receive()
        finally:
            self.receiving = False
        data = self._arrived.popleft()
        asked = max_bytes or 65536
        if data[asked:]:
            self._arrived.appendleft(data[asked:])
        self.bytes_received += len(data[:asked])
        return data[:asked]

    async def send_all(self, data: Data) -> None:
        self._state.check_send()
        await self._engine.sleep(self._engine.random.uniform(0.001, 0.2))
        self._state.check_send()
        assert self.other is not None
        self.other.arrive(bytes(data))
        self.bytes_sent += len(data)

    async def send_eof(self) -> None:
        self._state.check_send("send_eof")
        if not self._state.end_sent:
            self._state.end_sending()
            assert self.other is not None
            self.other.end()

    def arrive(self, data: bytes) -> None:
        self._arrived.append(data)
        self._news.set()

    def end(self, error: OSError | None = None) -> None:
        self._ended = True
        if error is not None:
            self._state.lose(error)
        self._news.set()

    def end_receiving(self) -> None:
        self._state.end_receiving()
        self.end()

    async def close(self) -> None:
        if self._state.close():
            self._news.set()
            assert self.other is not None
            self.other.end(ConnectionResetError(104, "reset") if self._state.aborted else None)

    def abort(self) -> None:
        if self._state.abort():
            self._news.set()


class SimulatedListener:
    """Where clients connect, and wait to be accepted."""

    def __init__(self, engine: SimulatedEngine, binding: Binding) -> None:
        self.binding, self.bindings = binding, [binding]
        self.addresses: Sequence[SockAddr] = [address for _, address in binding.addresses]
        self.waiting: collections.deque[SimulatedStream] = collections.deque()
        self.closed = False
        self.news = engine.event()

    def has_waiting(self) -> bool:
        return bool(self.waiting)

    def serve_backlog(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
        self.news.set()

    def reset_backlog(self) -> None:
        self.waiting.clear()


class SimulatedEngine(VirtualEngine):
    """Our loop, in a world of its own: the same for the same seed."""

    name = "simulated"
    machine = SimulatedMachine()

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self._listening: dict[SockAddr, SimulatedListener] = {}
        self._ports = itertools.count(40_000)

    def listen(
        self, bindings: Sequence[Binding], backlog: int, socket_buffer: int | None = None
    ) -> Sequence[SimulatedListener]:
        listeners = [SimulatedListener(self, binding) for binding in bindings]
        self._listening |= {each.addresses[0]: each for each in listeners}
        return listeners

    async def accept(self, listener: Any) -> SimulatedStream:
        while not listener.waiting:
            if listener.closed:
                raise ListenerClosed
            listener.news = self.event()
            await listener.news.wait()
        stream: SimulatedStream = listener.waiting.popleft()
        return stream

    async def connect(
        self, family: socket.AddressFamily, address: SockAddr, *, local: SockAddr | None = None
    ) -> SimulatedStream:
        await self.sleep(self.random.uniform(0.001, 0.05))
        listener = self._listening.get(address)
        if listener is None or listener.closed:
            raise ConnectionRefusedError(111, "Connection refused")
        ours = (HOST, next(self._ports))
        near, far = SimulatedStream(self, ours, address), SimulatedStream(self, address, ours)
        near.other, far.other = far, near
        listener.waiting.append(far)
        listener.news.set()
        return near

    async def to_thread(self, func: Callable[..., T], *args: Any) -> T:
        return func(*args)
