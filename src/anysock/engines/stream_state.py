"""The state of a stream, without a socket: what may still be done on it, and why nothing more.

Every stream keeps its state here: those over sockets, and those around another stream (TLS, limits,
faults on purpose). So the order of reasons that `engines.stream.Stream` promises is written once.

The rules:

1. The state is told of *events* (`end_sending`, `give_up_send`, `lose`, `abort`, `close`, ...) and
   answers *questions* (`why_not_send`, `why_not_receive`). It moves no byte and never waits.
2. What has happened once stays so. Events only add to it: no event leads back to `OPEN`.
3. An answer is the exception to raise, or None. Which one is decided by the order of `State`: the
   last state in it that was reached.

The diagram. From each state, `close` leads to `CLOSED`::

                    end_sending             give_up_send
           OPEN ────────────────> HALF_CLOSED ───────┐
             │  give_up_send                         v
             ├───────────────────────────────> CUT_SHORT
             │  lose, abort (also from HALF_CLOSED and CUT_SHORT)
             └───────────────────────────────> LOST, ABORTED ─── close ──> CLOSED

===========  ==============================  =================================  ====================
state        `send_all` raises               `send_eof` raises                  `recv` raises
===========  ==============================  =================================  ====================
OPEN         nothing                         nothing                            nothing
HALF_CLOSED  `StreamClosed`: a mistake       nothing: it is done                nothing
CUT_SHORT    `StreamBroken`                  `StreamBroken`                     nothing
LOST         `lost`                          `lost`                             `lost`, once nothing
                                                                                more has arrived
ABORTED      `lost`: `StreamAborted`         `lost`                             `lost`
CLOSED       `StreamClosed`                  `StreamClosed`                     `StreamClosed`
===========  ==============================  =================================  ====================
"""

from __future__ import annotations

import enum
import errno
import os
from typing import TYPE_CHECKING

from anysock.errors import StreamAborted, StreamClosed, stream_broken, stream_closed
from anysock.machine.compiled import fast

# The peer, or the network between, is gone: the normal end of a connection. From the errors
# of recv(2), send(2) and tcp(7).
PEER_GONE = frozenset(
    {
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.ENETRESET,
    }
)


class State(enum.IntEnum):
    """The states, each stronger than those before it."""

    OPEN = 0
    #: Our end of the stream was sent.
    HALF_CLOSED = 1
    #: A send was given up on its way: the peer would take what follows for the rest of it.
    CUT_SHORT = 2
    #: The peer or the network is gone.
    LOST = 3
    #: We have given the connection up.
    ABORTED = 4
    CLOSED = 5


if TYPE_CHECKING or fast is None:

    class _Happened:
        """What has happened to a stream. Where the path of a message is compiled, these are fields
        of C, which take a byte each."""

        __slots__ = (
            "aborted",
            "closed",
            "cut_short",
            "end_received",
            "end_sent",
            "letting_go",
            "lost",
            "receiving_ended",
            "receiving_over",
        )

        def __init__(self) -> None:
            self.closed = False
            self.aborted = False
            self.cut_short = False
            self.end_sent = False
            #: The peer's end of the stream has come.
            self.end_received = False
            #: We want to hear no more: an end of the stream that comes then says nothing of the
            #: peer.
            self.receiving_ended = False
            #: A receive has told so. On Linux, what comes after a shutdown for receiving is
            #: received all the same; but who was told of the end has done with the stream.
            self.receiving_over = False
            #: Our owner closes, and the peer has its time to take what it was sent. What comes
            #: until then is thrown away.
            self.letting_go = False
            #: Why the connection is gone: the first reason, which stays, unless it is EPIPE.
            self.lost: OSError | None = None

else:
    _Happened = fast.Flags


class StreamState(_Happened):
    """What has happened to one stream. The attributes may be read; events change them.

    Without a lock: under `threads` an event takes effect with the assignment of one attribute.
    """

    __slots__ = ()

    @property
    def state(self) -> State:
        """The strongest state that was reached."""
        if self.closed:
            return State.CLOSED
        if self.aborted:
            return State.ABORTED
        if self.lost is not None:
            return State.LOST
        if self.cut_short:
            return State.CUT_SHORT
        return State.HALF_CLOSED if self.end_sent else State.OPEN

    @property
    def sending_over(self) -> bool:
        """Whether nothing more can be sent, though the stream is neither lost nor closed."""
        return self.cut_short or self.end_sent or self.aborted

    # -- events ----------------------------------------------------------------------------------

    def end_sending(self) -> None:
        """Our end of the stream is sent."""
        self.end_sent = True

    def end_receiving(self) -> None:
        """We want to hear no more."""
        self.receiving_ended = True

    def let_go(self) -> None:
        """The close has begun: nobody hears what is received from now on."""
        self.letting_go = True

    def give_up_send(self, sent: int | None) -> None:
        """A `send_all` is cancelled when `sent` bytes of its data have gone (None: perhaps some).
        With 0 nothing has happened, and it may be repeated."""
        if sent != 0:
            self.cut_short = True

    def lose(self, error: OSError) -> None:
        """The connection is gone, by `error`, unless it was lost before."""
        if self.lost is None:
            self.lost = error

    def abort(self, lost: OSError | None = None) -> bool:
        """We give the connection up; `lost` says why, if that was known before. False when there is
        nothing to give up: it was given up, or closed."""
        if self.closed or self.aborted:
            return False
        self.lose(lost or StreamAborted("aborted on our side"))
        self.aborted = True
        return True

    def close(self) -> bool:
        """The owner closes the stream. False when it was closed before."""
        closes, self.closed = not self.closed, True
        return closes

    def meet_end(self) -> None:
        """A receive has brought nothing: the end of the stream, or our own doing.

        Raises what has happened instead of an end. Told of a reset once, recv(2) tells of an end of
        the stream from then on, which must not be taken for a good one. (EPIPE is what a sender
        meets: it says nothing of what was received.)
        """
        self.check_receive()
        if self.lost is not None and not self.end_received and self.lost.errno != errno.EPIPE:
            raise self.lost
        self.receiving_over = self.receiving_ended
        self.end_received = not self.receiving_ended

    def explain(self, error: OSError) -> Exception:
        """What to raise for an error of recv(2), send(2) or shutdown(2). Where it says that the
        peer is gone, the stream is lost."""
        if self.closed:
            return StreamClosed("used after close()")
        if self.lost is not None and not self._says_more(error):
            return self.lost
        if self.cut_short and error.errno == errno.EBADF:
            return stream_broken()
        if self.end_sent and error.errno in (errno.EBADF, errno.EPIPE):
            return StreamClosed("sent after our end of the stream")
        if error.errno == errno.ENOTCONN:
            # What shutdown(2) says when the peer has reset the connection.
            error = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if error.errno in PEER_GONE:
            self.lost = error
        return error

    def _says_more(self, error: OSError) -> bool:
        """Whether `error` says why the connection is gone, where EPIPE has told that it is. (Of two
        threads, the one that receives may be told of a reset by the kernel, and come after the one
        that sends, and that heard of a broken pipe.)"""
        lost = self.lost
        told = error.errno in PEER_GONE and error.errno != errno.EPIPE
        return told and lost is not None and lost.errno == errno.EPIPE

    # -- questions -------------------------------------------------------------------------------

    def why_not_send(
        self, what: str = "send_all", below: Exception | None = None
    ) -> Exception | None:
        """What stands against sending by `what`, besides another task that does; None: nothing.

        `below` is what has happened to the stream inside, where that counts.
        """
        if self.closed:
            return stream_closed(what)
        if self.lost is not None:
            return self.lost
        if below is not None:
            return below
        if self.cut_short:
            return stream_broken()
        if self.end_sent and what != "send_eof":
            return StreamClosed(f"{what}() after send_eof()")
        return None

    def why_not_receive(self) -> Exception | None:
        """What stands against receiving, even where something has arrived; None: nothing."""
        if self.closed:
            return stream_closed("recv")
        return self.lost if self.aborted else None

    def check_send(self, what: str = "send_all", below: Exception | None = None) -> None:
        """Raise what `why_not_send` returns."""
        if (reason := self.why_not_send(what, below)) is not None:
            raise reason

    def check_receive(self) -> None:
        """Raise what `why_not_receive` returns."""
        if (reason := self.why_not_receive()) is not None:
            raise reason
