"""Claims about completion, as io_uring has it: who owns a buffer, and what cancelling means."""

from __future__ import annotations

import collections
import contextlib
import errno
import select
import socket
import threading
from collections.abc import Callable, Iterable

from anysock.lab.claims import Claims, Finding, NotMeasured
from anysock.lab.ring import CANCEL, RECEIVE, SEND, Ring, address_of
from anysock.lab.stage import pair, receive

CLAIMS = Claims()

_MESSAGE = b"x" * 64
_ROUNDS = 20
_RACES = 1000

# Of flags of a send: to be complete when all is sent, not when some is (send(2), recv(2)).
_ALL = int(socket.MSG_WAITALL | socket.MSG_NOSIGNAL)


def _system_calls_with_epoll(count: int) -> int:
    """The system calls of a server that echoes `_ROUNDS` messages of each of `count` clients."""
    calls = 0
    with contextlib.ExitStack() as stack, select.epoll() as poller:
        pairs = [stack.enter_context(pair()) for _ in range(count)]
        clients = {far.fileno(): far for _, far in pairs}
        for number in clients:
            poller.register(number, select.EPOLLIN)  # once for each client: not counted
        for _ in range(_ROUNDS):
            for near, _ in pairs:
                near.sendall(_MESSAGE)
            echoed = 0
            while echoed < count:
                calls += 1
                for number, _ in poller.poll():
                    clients[number].send(clients[number].recv(4096))
                    calls += 2
                    echoed += 1
            for near, _ in pairs:
                receive(near, len(_MESSAGE))
    return calls


def _system_calls_with_a_ring(count: int) -> int:
    """The same with io_uring."""
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(pair()) for _ in range(count)]
        ring = stack.enter_context(Ring())
        descriptors = [far.fileno() for _, far in pairs]
        buffers = [bytearray(4096) for _ in pairs]
        places = [address_of(buffer) for buffer in buffers]

        def ask_to_receive(client: int) -> None:
            ring.ask(RECEIVE, 2 * client, fd=descriptors[client], address=places[client], size=4096)

        for client in range(count):
            ask_to_receive(client)
        ring.enter()
        ring.calls = 0
        for _ in range(_ROUNDS):
            for near, _ in pairs:
                near.sendall(_MESSAGE)
            echoed = 0
            while echoed < count:
                for name, result in ring.enter(1):
                    client, sent = divmod(name, 2)
                    if sent:
                        echoed += 1
                        ask_to_receive(client)
                    else:
                        ring.ask(
                            SEND,
                            name + 1,
                            fd=descriptors[client],
                            address=places[client],
                            size=result,
                            flags=_ALL,
                        )
            for near, _ in pairs:
                receive(near, len(_MESSAGE))
        calls = ring.calls
        for near, _ in pairs:  # so that the receives that are in flight are complete
            near.shutdown(socket.SHUT_WR)
        left = count
        while left:
            left -= len(ring.enter(1))
    return calls


@CLAIMS.claim(
    "one-system-call-for-many-clients",
    says="With io_uring, one system call asks for the work of many clients, and brings the results",
    how=f"Two servers in this process echo {_ROUNDS} messages of each of 1 and 50 clients, who all "
    "send before the server's turn: one waits with epoll, receives and sends; the other hands "
    "operations to a ring. Their system calls, divided by the messages.",
    threshold="50 clients: epoll over 2 calls a message, io_uring under 0.2; one client: io_uring "
    "less than epoll",
    read_on="io_uring_enter(2); docs/tutorial: S15",
)
def _system_calls() -> Iterable[Finding]:
    for count in (1, 50):
        messages = count * _ROUNDS
        ring = _system_calls_with_a_ring(count) / messages
        epoll = _system_calls_with_epoll(count) / messages
        clients = "one client" if count == 1 else f"{count} clients"
        holds = (ring < epoll, True) if count == 1 else (ring < 0.2, epoll > 2)
        for subject, calls, held in zip(("io_uring", "epoll"), (ring, epoll), holds, strict=True):
            figure = f"{calls:.2f} system calls a message"
            yield Finding.judge(f"{subject}, {clients}", figure, held, calls)


@CLAIMS.claim(
    "a-buffer-in-flight-is-the-kernels",
    says="Until an operation is complete, its buffer is the kernel's: not to be read, written or "
    "freed",
    how="A program asks to receive into a buffer, writes there, and then data comes. It asks to "
    "send 4 MB to a client that does not read yet, and overwrites them: before the completion, or "
    "after it; or after a send() that returned. How much of what it wrote reaches the client.",
    threshold="receive: what it wrote is lost; a send that is overwritten before it is complete: "
    "some arrives; otherwise: none",
    read_on="io_uring_prep_send(3); docs/tutorial: S15",
)
def _buffers() -> Iterable[Finding]:
    with Ring() as ring, pair() as (near, far):
        buffer = bytearray(5)
        ring.ask(RECEIVE, 1, fd=far.fileno(), address=address_of(buffer), size=len(buffer))
        ring.enter()
        buffer[:] = b"notes"
        near.sendall(b"hello")
        ring.enter(1)
    figure = f"the program wrote b'notes', and finds {bytes(buffer)!r}"
    yield Finding.judge("receive", figure, buffer == b"hello")
    for subject, early in (("overwritten before the completion", True), ("after it", False)):
        changed = _overwritten(early=early)
        figure = f"{changed:,} of 4,000,000 bytes arrive as what was written later"
        yield Finding.judge(subject, figure, (changed > 0) == early, changed)
    with pair() as (near, far):
        copied = bytearray(b"a" * 100_000)
        sent = near.send(copied)
        copied[:] = b"b" * len(copied)
        changed = receive(far, sent).count(b"b")
    figure = f"{changed:,} of {sent:,} bytes: the kernel has copied them"
    yield Finding.judge("after a send() that returned", figure, changed == 0, changed)


def _overwritten(*, early: bool) -> int:
    """Send 4 MB, and overwrite them `early`, or when the send is complete: how many bytes arrive
    as what was written later."""
    data = bytearray(b"a" * 4_000_000)
    received = bytearray()
    with Ring() as ring, pair() as (near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # most does not fit at once
        ring.ask(SEND, 1, fd=near.fileno(), address=address_of(data), size=len(data), flags=_ALL)
        complete = ring.enter()  # it takes what fits into the buffers of the sockets
        if early:
            data[:] = b"b" * len(data)
        while not complete:
            received += far.recv(1 << 20)
            complete = ring.enter()
        if complete[0].result != len(data):
            raise NotMeasured(f"a send of 4,000,000 bytes ended with {complete[0].result}")
        data[:] = b"b" * len(data)
        received += receive(far, len(data) - len(received))
    return received.count(b"b")


@CLAIMS.claim(
    "a-cancelled-receive-may-have-received",
    says="A receive that is cancelled may be complete all the same: who forgets it loses data",
    how="A receive is asked for, and then its cancellation, until both are complete: when nothing "
    f"has come; when five bytes have come; and {_RACES:,} times while a client sends a byte.",
    threshold="nothing: ECANCELED; five bytes: the receive has them; the race: each byte is either "
    "in the completion or still to be received",
    read_on="io_uring_prep_cancel(3); docs/tutorial: S15",
)
def _cancelled() -> Iterable[Finding]:
    with Ring() as ring, pair() as (near, far):
        buffer = bytearray(5)
        ended = _cancel(ring, far, buffer)
        yield Finding.judge(
            *("nothing came", f"the receive: {_told(ended)}", ended == -errno.ECANCELED, ended)
        )
        ended = _cancel(ring, far, buffer, lambda: near.sendall(b"hello"))
        figure = f"the receive: {_told(ended)}"
        yield Finding.judge("five bytes came before", figure, buffer == b"hello", ended)
        outcomes = _race(ring, near, far)
    received, cancelled = outcomes[1], outcomes[-errno.ECANCELED]
    yield Finding.judge(
        f"a race, {_RACES:,} times",
        f"{received:,} receives had the byte, {cancelled:,} were cancelled and left it",
        received + cancelled == _RACES,
        received,
    )


def _cancel(
    ring: Ring,
    far: socket.socket,
    buffer: bytearray,
    meanwhile: Callable[[], object] = lambda: None,
) -> int:
    """Ask to receive, and to cancel that after `meanwhile`: what came of the receive."""
    ring.ask(RECEIVE, 1, fd=far.fileno(), address=address_of(buffer), size=len(buffer))
    found = ring.enter()
    meanwhile()
    ring.ask(CANCEL, 2, address=1)
    while len(found) < 2:
        found += ring.enter(1)
    return dict(found)[1]


def _race(ring: Ring, near: socket.socket, far: socket.socket) -> collections.Counter[int]:
    """Cancel receives while a byte comes for each: how often which result."""
    together = threading.Barrier(2)

    def send() -> None:
        for _ in range(_RACES):
            together.wait()
            near.sendall(b"x")

    sender = threading.Thread(target=send)
    sender.start()
    outcomes: collections.Counter[int] = collections.Counter()
    for _ in range(_RACES):
        result = _cancel(ring, far, bytearray(1), together.wait)
        if result < 0 and far.recv(1) != b"x":
            result = 0  # lost
        outcomes[result] += 1
    sender.join()
    return outcomes


def _told(result: int) -> str:
    return f"{result} bytes" if result >= 0 else errno.errorcode[-result]
