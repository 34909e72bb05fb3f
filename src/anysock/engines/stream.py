"""One connected peer, as every engine offers it. Part of the contract (`base`)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple, Protocol, TypeAlias

from anysock.engines.machine import SockAddr

#: What can be sent.
Data: TypeAlias = bytes | bytearray | memoryview


class PeerCredentials(NamedTuple):
    """Who is at the other end of a Unix socket (unix(7), SO_PEERCRED): the process that has
    connected, and as whom it ran then."""

    pid: int
    uid: int
    gid: int


class Keepalive(NamedTuple):
    """When TCP asks whether a silent peer is still there (tcp(7)): after `idle` seconds, then every
    `interval` seconds; after `probes` questions without an answer the connection is lost."""

    idle: int
    interval: int
    probes: int


class Stream(Protocol):
    """One connected peer. The seam of the house: what changes bytes on their way (TLS, faults
    on purpose) is a Stream around a Stream, and a simulated network hands out Streams that
    have no socket at all.

    What follows holds under every engine, and for every stream around a stream:

    **One sends, one receives.** Sending beside receiving is always fine. A second `send_all` or
    `send_eof` while another task is within one raises `StreamBusy`, and so does a second `recv`:
    none is queued, not a byte of the second is moved, and nothing happens to the first.

    **What is over stays over.** Of several reasons, the first in this order is raised:

    1. `StreamClosed`: after `close`, and in tasks that wait when it is called.
    2. `lost`: the peer or the network is gone (ConnectionError, or another OSError of the network),
       or `abort` was called (`StreamAborted`), whichever came first. It stays what it is, and is
       raised again and again. Only `recv` still returns what had arrived before the peer was lost;
       after an abort it does not. An end of the stream that had come is none any more, unless the
       loss was met by sending only (BrokenPipeError).
    3. `StreamBroken`: an earlier `send_all` or `send_eof` was given up on its way.
    4. `StreamClosed`: sending after `send_eof`; a mistake of ours, and no loss. A second `send_eof`
       does nothing.
    5. `StreamBusy`.

    **A cancellation loses nothing unnoticed.** A `recv` that is given up has taken nothing: the
    next one returns what came, and `bytes_received` counts what was returned. A `send_all` that is
    given up has either sent nothing, and may be repeated, or every later one raises `StreamBroken`.
    One that has sent all returns; a cancellation that comes too late for it is raised at a later
    await.

    **A task that need not wait is not stopped**: what is there is received, and what there is room
    for is sent, even where a deadline is over already. But a task that never has to wait lets the
    others run, and gets its cancellation, at the latest after twice
    `engines.posix.streams.OPS_BEFORE_YIELD` operations on one stream; before the operation, and
    never between its bytes and its return.
    """

    #: Whether `send_all` takes a list or tuple of pieces, too, and sends them as one.
    vectored: bool

    @property
    def bytes_received(self) -> int: ...

    @property
    def bytes_sent(self) -> int: ...

    @property
    def lost(self) -> OSError | None:
        """The exception that ended the connection, when the network, the peer, a limit or `abort`
        did; else None. It says how the connection ends, and not that nothing can be sent any more:
        a peer that has sent too much is still answered."""
        ...

    @property
    def end_received(self) -> bool:
        """Whether a `recv` has met the peer's end of the stream."""
        ...

    def has_come(self) -> bool:
        """Whether something has come that no `recv` has taken yet: data, the end of the stream, or
        an error. It is looked for, which costs a system call."""
        ...

    @property
    def peer(self) -> SockAddr:
        """The address of the other end."""
        ...

    @property
    def local(self) -> SockAddr:
        """The address of our end."""
        ...

    @property
    def peer_credentials(self) -> PeerCredentials | None:
        """Who the peer is, on a Unix socket; None where that is not known."""
        ...

    @property
    def receiving(self) -> bool:
        """True while a task waits in `recv` for the peer to say something."""
        ...

    @property
    def sending(self) -> bool:
        """True while a task waits in `send_all` for the peer to read."""
        ...

    @property
    def tls(self) -> Any:
        """The TLS that is spoken on it, as a `net.tls_session.TlsSession`; None without."""
        ...

    @property
    def held(self) -> int:
        """How many bytes of the conversation are kept in memory for it, as far as it knows: come
        and not received yet, or handed to a `send_all` that waits. To be asked for now and then."""
        ...

    def progress(self) -> int:
        """A number that changes while the peer takes what is sent to it, even within one
        `send_all`. To be asked for now and then, while `sending`."""
        ...

    def set_recv_size(self, max_bytes: int) -> None:
        """Let `recv()` ask for `max_bytes` from now on, instead of what suits the traffic."""
        ...

    def recv(self, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Wait for data and return at least 1 and at most `max_bytes` of it; ``b""`` at the
        end of the stream. None asks for what suits the traffic."""
        ...

    def send_all(self, data: Data) -> Awaitable[None]:
        """Send all of `data`; return once the last byte is handed to the kernel, or will be before
        the loop next sleeps.

        While the peer does not read, this waits: that is the back-pressure. What is returned must
        be awaited, and at once: some engines have begun by then.
        """
        ...

    def send_file(self, fd: int, offset: int, count: int) -> Awaitable[int] | None:
        """Send `count` bytes of the regular file behind `fd`, from `offset` on, without reading
        them; return how many there were. None where the stream has no way to: then nothing has
        begun. Otherwise as `send_all`."""
        ...

    def break_sending(self) -> None:
        """A message was given up on its way, between two sends: from now on each raises
        `StreamBroken`."""
        ...

    def set_keepalive(self, keepalive: Keepalive | None) -> None:
        """Let TCP watch over the peer, or not. Elsewhere it does nothing. Raises OSError for
        numbers that the system refuses."""
        ...

    async def send_eof(self) -> None:
        """Half-close: tell the peer that nothing more will be sent. Receiving goes on."""
        ...

    def end_receiving(self) -> None:
        """Let `recv` return what has arrived and then ``b""``, as if the peer had half-closed.

        May be called from anywhere; it wakes a task that waits in `recv`.
        """
        ...

    async def close(self) -> None:
        """Close our end. What was sent is still delivered. Safe to call again."""
        ...

    def abort(self) -> None:
        """Give the connection up: what waits on it gets `StreamAborted`, and when it is closed
        the peer gets a reset instead of an end of stream. May be called from anywhere."""
        ...
