"""Claims about sockets and TCP: what recv, send, accept and listen really do."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import threading
import time
from collections.abc import Iterable

from anysock.lab.claims import Claims, Finding
from anysock.lab.stage import pair, receive

CLAIMS = Claims()

_MEGABYTE = 1_000_000


def _in_background(client: socket.socket, data: bytes) -> threading.Thread:
    def send() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@CLAIMS.claim(
    "recv-returns-up-to-n",
    says="recv(n) returns up to n bytes: TCP carries bytes, not messages",
    how="1 MB is sent with one call, and received with recv(2), recv(1024) and recv(65536); then "
    "ten messages of 100 bytes are sent with ten calls, and received with one.",
    threshold="1 MB takes at least 1,000,000 / n receives, none above n; ten messages are one "
    "receive",
    read_on="recv(2); docs/tutorial: S2",
)
def _receives() -> Iterable[Finding]:
    for size in (2, 1024, 65536):
        with pair() as (near, far):
            sender = _in_background(near, bytes(_MEGABYTE))
            count = largest = 0
            while data := far.recv(size):
                count += 1
                largest = max(largest, len(data))
            sender.join()
        holds = count >= _MEGABYTE / size and largest <= size
        yield Finding.judge(f"recv({size:,})", f"{count:,} receives for 1 MB", holds, count)
    with pair() as (near, far):
        for _ in range(10):
            near.sendall(bytes(100))
        near.shutdown(socket.SHUT_WR)
        while len(far.recv(2000, socket.MSG_PEEK)) < 1000:
            pass  # they are on their way
        length = len(far.recv(65536))
    yield Finding.judge(
        "10 messages of 100 bytes", f"one receive of {length:,} bytes", length == 1000, length
    )


@CLAIMS.claim(
    "crlf-may-be-split",
    says="The CR and the LF of one line may come in two receives",
    how="1,000 lines of random lengths are received two bytes at a time; the lines whose CR is the "
    "last byte of a receive are counted.",
    threshold="at least 30 % of the lines are split (by chance, half of them are)",
    read_on="docs/tutorial: S2",
)
def _crlf() -> Iterable[Finding]:
    chance = random.Random(862)
    lines = [b"x" * chance.randrange(80) + b"\r\n" for _ in range(1000)]
    split = 0
    with pair() as (near, far):
        sender = _in_background(near, b"".join(lines))
        while data := receive(far, 2):
            split += data.endswith(b"\r")
        sender.join()
    share = split / len(lines)
    yield Finding.judge("recv(2)", f"{share:.0%} of 1,000 lines were split", share >= 0.3, share)


@CLAIMS.claim(
    "nothing-means-closed",
    says="b'' means that the peer has ended its stream; every further recv returns it again, "
    "without waiting",
    how="A peer sends five bytes and closes. recv is called for 0.1 s.",
    threshold="the five bytes come first, then b'' at least 1,000 times",
    read_on="recv(2); docs/tutorial: S4",
)
def _closed() -> Iterable[Finding]:
    with pair() as (near, far):
        near.sendall(b"hello")
        near.close()
        first = receive(far, 5)
        count, end = 0, time.monotonic() + 0.1
        while time.monotonic() < end and far.recv(65536) == b"":
            count += 1
    figure = f"{first!r}, and then b'' {count:,} times in 0.1 s: a loop that does not look spins"
    yield Finding.judge("closed peer", figure, first == b"hello" and count >= 1000, count)


@CLAIMS.claim(
    "send-is-not-sendall",
    says="send() takes what fits; a sender that does not check the count loses the rest",
    how="One send() hands 50 MB to a non-blocking socket, while the peer does not read; then more "
    "calls, until one fails with EAGAIN.",
    threshold="less than 50 MB are taken before EAGAIN",
    read_on="send(2); docs/tutorial: S7",
)
def _send() -> Iterable[Finding]:
    data = memoryview(bytes(50 * _MEGABYTE))
    with pair() as (near, _):
        near.setblocking(False)
        first = taken = near.send(data)
        with contextlib.suppress(BlockingIOError):
            while taken < len(data):
                taken += near.send(data[taken:])
    lost = len(data) - first
    yield Finding.judge(
        "one send()", f"took {first:,} bytes; {lost:,} would be lost", first < len(data), first
    )
    yield Finding.judge("until EAGAIN", f"{taken:,} bytes", taken < len(data), taken)


@CLAIMS.claim(
    "nonblocking-answers-at-once",
    says="A call on a non-blocking socket returns at once; it raises BlockingIOError when there is "
    "nothing",
    how="accept() when no client connects and recv() when no data comes, 1,000 times each.",
    threshold="BlockingIOError each time, after at most 100 µs on average",
    read_on="socket(7), O_NONBLOCK; docs/tutorial: S5, S6",
)
def _nonblocking() -> Iterable[Finding]:
    with pair() as (near, _), socket.create_server(("127.0.0.1", 0)) as listener:
        near.setblocking(False)
        listener.setblocking(False)
        for name, call in (("accept()", listener.accept), ("recv()", lambda: near.recv(1))):
            errors, begun = 0, time.perf_counter()
            for _ in range(1000):
                try:
                    call()
                except BlockingIOError:
                    errors += 1
            each = (time.perf_counter() - begun) / 1000 * 1e6
            figure = f"BlockingIOError {errors:,} times of 1,000, after {each:.2f} µs"
            yield Finding.judge(name, figure, errors == 1000 and each < 100, each)


@CLAIMS.claim(
    "reuseaddr",
    says="A server that closed first can bind its port again at once only with SO_REUSEADDR",
    how="A server closes a connection first, which leaves it in TIME_WAIT, and then its listener. "
    "The port is bound again, with SO_REUSEADDR and without.",
    threshold="with: bound; without: EADDRINUSE",
    read_on="socket(7), SO_REUSEADDR; RFC 9293, 3.4.2",
)
def _reuseaddr() -> Iterable[Finding]:
    for reuse in (False, True):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            client = socket.create_connection(address)
            connection, _ = listener.accept()
            connection.close()  # first: this side waits
            receive(client, 1)
            client.close()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            try:
                again.bind(address)
                code = 0
            except OSError as error:
                code = error.errno or 0
        subject = "with SO_REUSEADDR" if reuse else "without"
        figure = errno.errorcode[code] if code else "bound at once"
        yield Finding.judge(subject, figure, code == (0 if reuse else errno.EADDRINUSE))


@CLAIMS.claim(
    "connections-wait-in-the-backlog",
    says="A connection is made before the server accepts it: it waits in the backlog, and when the "
    "backlog is full, the next client must try again",
    how="A listener with a backlog of 8 accepts nobody; clients connect until one is not connected "
    "within 0.3 s. Then one is accepted, and that client is checked again.",
    threshold="8 to 16 are connected without an accept; the next, once there is room",
    read_on="listen(2); docs/tutorial: S4",
)
def _backlog() -> Iterable[Finding]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        count = 0
        waiting = None
        for _ in range(64):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.3)
            try:
                client.connect(listener.getsockname())
            except TimeoutError:
                waiting = client
                break
            count += 1
        yield Finding.judge(
            "backlog of 8", f"{count} connected, none accepted", 8 <= count <= 16, count
        )
        if waiting is None:
            yield Finding.judge("the next", "was connected as well", holds=False)
            return
        listener.accept()[0].close()
        # Its SYN is sent again after a second (RFC 6298), and then there is room.
        begun = time.monotonic()
        while time.monotonic() - begun < 8:
            try:
                waiting.getpeername()
                break
            except OSError:
                time.sleep(0.01)  # between two checks
        took = time.monotonic() - begun
        yield Finding.judge(
            "the next", f"connected {took:.2f} s after there was room", took < 8, took
        )
