"""A stream that speaks TLS over the one inside: the same under every engine."""

from __future__ import annotations

import contextlib
import ssl

from anysock.engines.base import Data, Stream
from anysock.engines.current import current_engine
from anysock.engines.posix.streams import FIRST_RECV_SIZE, RECV_GROWTH, whole
from anysock.engines.stream_state import StreamState
from anysock.errors import AnysockError, TlsError
from anysock.net.certificates import Identities
from anysock.net.tls_session import RECORD, RECORDS_IN_A_ROW, TlsSession
from anysock.streams.costly import CostlyWork
from anysock.streams.lock import Claim, Lock
from anysock.streams.wrapping import WrappedStream

# How many bytes are encrypted and sent at a time. A sender takes this much memory besides its data.
# From about 128 KiB on, larger pieces are no faster.
_PIECE = 4 * RECORD

# The default maximum of one receive from the network, and of what `recv()` returns, in bytes. This
# much is kept for each connection whose peer does not read its answers. Unlike without TLS, more is
# no faster: most of the time goes to ciphers.
_MAX_RECEIVED = 65_536

# A receive may produce output (see `TlsStream._answer`). Up to this many bytes of it wait until
# something is sent anyway.
_MAX_UNSAID = 4096

# How long a close_notify, or a final alert, may take when the peer does not read.
_LAST_WORDS_SECONDS = 1.0

# How many receives are answered in a row from data that is there, before other tasks run.
_OPS_BEFORE_YIELD = 16


class TlsStream(WrappedStream):
    """TLS over `inner`. Nothing goes either way before `handshake` is done.

    What differs from a stream without TLS:

    - `send_eof` sends close_notify, and leaves TCP open. Receiving goes on until the peer's own
      close_notify (RFC 8446, 6.1). In TLS 1.2 a peer may answer a close_notify with its own at
      once, and drop what it had still to send (RFC 5246, 7.2.1); this stream never does that.
    - The end of the TCP stream alone is no end: `recv` raises `TlsTruncated`.
    - Any other fault of TLS is raised as `TlsError`; `lost` then holds it.
    - A `send_all` that was cancelled in the middle has always sent part of its data.

    The streams of one server share `costly`, since each handshake makes a signature.

    `bytes_received` and `bytes_sent` count what was moved before the handshake, and plain text
    from then on.
    """

    opaque = True

    def __init__(
        self,
        inner: Stream,
        context: ssl.SSLContext | Identities,
        *,
        server_side: bool,
        hostname: str | None = None,
        costly: CostlyWork | None = None,
        where: str = "on a TLS port",
    ) -> None:
        super().__init__(inner)
        self._session = TlsSession(context, server_side=server_side, hostname=hostname, where=where)
        self._costly = costly
        self._unsent = 0
        self._most = _MAX_RECEIVED
        self._asked = FIRST_RECV_SIZE
        self._received = inner.bytes_received
        self._sent = inner.bytes_sent
        self._one_sends, self._one_receives = Claim("sending"), Claim("receiving")
        # A receiver that has to answer sends, too.
        self._sending_lock = Lock()
        self._ops_left = _OPS_BEFORE_YIELD
        self._next_yield_at = RECORDS_IN_A_ROW
        self._state = StreamState()

    # -- what is known of it ---------------------------------------------------------------------

    @property
    def tls(self) -> TlsSession:
        return self._session

    @property
    def bytes_received(self) -> int:
        return self._received

    @property
    def bytes_sent(self) -> int:
        return self._sent

    @property
    def lost(self) -> OSError | None:
        return self._state.lost or self._inner.lost

    @property
    def end_received(self) -> bool:
        return self._session.ended

    def has_come(self) -> bool:
        return self._inner.has_come()

    @property
    def held(self) -> int:
        return self._inner.held + self._session.held + self._unsent

    def set_recv_size(self, max_bytes: int) -> None:
        self._most = self._asked = max_bytes
        self._inner.set_recv_size(max_bytes)

    # -- what it does ----------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Agree with the peer on how to speak. To be called once, before everything else.

        Raises `TlsError`, which says what was wrong, when the two can't agree, or what comes is
        no TLS. Takes as long as the peer does: put a deadline around it. Meanwhile, other tasks
        that receive or send here get `StreamBusy`.
        """
        with self._one_sends, self._one_receives:
            try:
                while not await self._step():
                    await self._flush()
                    if self._session.behind:
                        await current_engine().sleep(0)
                    elif not await self._feed():
                        raise TlsError("ended on our side before the TLS handshake was done")
            except TlsError as error:
                await self._lose(error)
                raise
            await self._flush()

    def refuse(self, error: TlsError) -> TlsError:
        """Speak no TLS after all: from now on each receive and each send raises `error`, unless
        the connection is lost already. Returns it."""
        self._session.fail(error)
        if self._inner.lost is None:
            self._state.lose(error)
        return error

    async def _step(self) -> bool:
        if self._costly is None:
            return self._session.handshake()
        return await self._costly.do(self._session.handshake)

    async def recv(self, max_bytes: int | None = None) -> bytes:
        self._check_receive()
        try:
            with self._one_receives:
                most = max_bytes or self._most
                self._ops_left -= 1
                # Records are counted even if a receive has waited meanwhile: where the network
                # always has more, waiting for it lets no other task run.
                if not self._ops_left or self._session.opened >= self._next_yield_at:
                    await self._let_others_run()
                # Data that was taken from the session is returned without a further await: a
                # receive that is cancelled loses nothing.
                while (data := self._session.decrypt(most)) is None:
                    await self._answer()
                    if self._session.behind:
                        await self._let_others_run()
                    elif await self._feed():
                        self._ops_left = _OPS_BEFORE_YIELD
                    else:
                        return b""
                self._check_receive()
        except TlsError as error:
            await self._lose(error)
            raise
        self._received += len(data)
        return data

    async def send_all(self, data: Data) -> None:
        self._check_send("send_all")
        with self._one_sends:
            async with self._sending_lock:
                self._check_send("send_all")
                self._unsent = whole(data)
                rest = memoryview(data)
                try:
                    while rest:
                        piece, rest = rest[:_PIECE], rest[_PIECE:]
                        await self._inner.send_all(self._encrypt(piece))
                        self._sent += len(piece)
                except BaseException as error:
                    # The records that were made are gone: the peer would miss them.
                    self._state.give_up_send(None)
                    if isinstance(error, TlsError):
                        self._state.lose(error)
                    elif self._state.lost is not None and isinstance(error, OSError):
                        raise self._state.lost from None  # the receiver knows the cause
                    raise
                finally:
                    self._unsent = 0

    async def send_eof(self) -> None:
        self._check_send("send_eof")
        if self._state.end_sent:
            return
        with self._one_sends:
            async with self._sending_lock:
                self._check_send("send_eof")
                if self._state.end_sent:
                    return
                self._state.end_sending()
                try:
                    self._session.shut_down()
                except TlsError as error:
                    self._state.lose(error)
                    raise
                await self._hand_on()

    def break_sending(self) -> None:
        self._state.give_up_send(None)

    def end_receiving(self) -> None:
        self._state.end_receiving()
        self._inner.end_receiving()

    async def close(self) -> None:
        if not self._state.close():
            return
        try:
            if self._can_still_send():
                # After a fault, only the alert that tells of it.
                ends_well = self._session.established and self._state.lost is None
                await self._say_last_words(close_notify=ends_well and not self._state.end_sent)
        finally:
            await self._inner.close()

    def abort(self) -> None:
        self._inner.abort()
        self._state.abort(self._inner.lost)

    # -- within ----------------------------------------------------------------------------------

    def _encrypt(self, piece: memoryview) -> bytes:
        if len(piece) <= RECORD:
            return self._session.encrypt(piece)
        starts = range(0, len(piece), RECORD)
        return b"".join([self._session.encrypt(piece[at : at + RECORD]) for at in starts])

    async def _let_others_run(self) -> None:
        self._ops_left = _OPS_BEFORE_YIELD
        self._next_yield_at = self._session.opened + RECORDS_IN_A_ROW
        await current_engine().sleep(0)

    async def _feed(self) -> bool:
        """Receive from the network. False when our side has ended receiving."""
        data = await self._inner.recv(self._asked)
        if data:
            if len(data) == self._asked < self._most:
                self._asked = min(self._asked * RECV_GROWTH, self._most)
            self._session.feed(data)
        elif self._state.receiving_ended:
            return False
        else:
            self._session.end_input()
        return True

    async def _answer(self) -> None:
        """Send what a receive has produced, if that can't wait.

        In TLS 1.3 these are replies to KeyUpdate; they can wait until the next send (RFC 8446,
        4.6.3), so that a cancelled receive cuts nothing short. Only a peer that goes on asking, and
        does not read, must be waited for. In TLS 1.2 it is the refusal of a renegotiation, for
        which the peer waits (RFC 5246, 7.2.2).
        """
        unsaid = self._session.output_pending
        if unsaid and (unsaid > _MAX_UNSAID or self._session.version != "TLSv1.3"):
            await self._flush()

    async def _flush(self) -> None:
        async with self._sending_lock:
            await self._hand_on()

    async def _hand_on(self) -> None:
        """Send the output of the session. The caller holds `_sending_lock`."""
        while (data := self._session.take_output()) and not self._state.cut_short:
            try:
                await self._inner.send_all(data)
            except BaseException:
                self._state.give_up_send(None)
                raise

    async def _lose(self, error: TlsError) -> None:
        """TLS has ended the connection. Send the alert, if the peer still listens."""
        if self._state.lost is None:
            self._state.lose(error)
            if self._session.output_pending and self._can_still_send():
                await self._say_last_words(close_notify=False)

    async def _say_last_words(self, *, close_notify: bool) -> None:
        with contextlib.suppress(OSError, AnysockError):
            async with current_engine().scope(_LAST_WORDS_SECONDS):
                if close_notify:
                    self._session.shut_down()
                await self._flush()

    def _can_still_send(self) -> bool:
        """Whether everything so far was sent, and more may follow."""
        return not (
            self._state.cut_short
            or self._state.aborted
            or self._inner.lost is not None
            or self._sending_lock.taken
        )

    def _check_send(self, what: str) -> None:
        """Raise what stands against sending, besides another task that does."""
        below = self._inner.lost if self._state.sending_over else None
        self._state.check_send(what, below)

    def _check_receive(self) -> None:
        """Raise what stands against receiving, even where something has arrived."""
        self._state.check_receive()
