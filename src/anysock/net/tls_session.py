"""TLS without a socket in sight: bytes of the network in and out, plain text in and out.

It stands on the standard library's `ssl.SSLObject`, which is OpenSSL between two buffers. What
OpenSSL does with them, and what CPython makes of that, is kept in this file.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import Any

from anysock.engines.base import Data
from anysock.errors import TlsError, TlsTruncated, UsageError
from anysock.net.certificates import Identities
from anysock.net.tls_errors import NO_PROTOCOL, explain
from anysock.net.tls_hello import MAX_HELLO, Asked, HelloWatch

# A record holds at most 16 KiB of plain text. Before it, five bytes: the last two of them say how
# much follows (RFC 8446, 5.1).
RECORD = 16384
_HEAD = 5

# How a TLS stream can begin: a record of type handshake, or alert (RFC 8446, 5.1).
_BEGINNINGS = (0x16, 0x15)

# How many records are opened in a row before other tasks run. Opening a record takes as long as an
# operation does, even if it has a single byte, or none (RFC 8446, 5.1); and one chunk from the
# network may hold ten thousand.
RECORDS_IN_A_ROW = 64

# A record with a fatal alert (RFC 8446, 6; RFC 7301, 3.2).
_NO_APPLICATION_PROTOCOL = bytes.fromhex("15 0303 0002 02 78")
_ALERT_RECORD = _NO_APPLICATION_PROTOCOL[:1]

# How many bytes of something that is no TLS are shown; and how many protocols.
_MAX_SHOWN = 20


class TlsSession:
    """One end of a TLS connection, without a socket: bytes in, bytes out.

    `feed` it what the network brings; send what `encrypt` returns, and after every other call what
    `take_output` returns. Its memory is bounded by what it was fed, plus 16 KiB for each call; its
    work by `RECORDS_IN_A_ROW` for each call (see `behind`).

    Raises `TlsError` when the peer, or an attacker on the way, breaks the protocol; `take_output`
    may then return an alert for the peer. It can be used from several threads. `hostname` is the
    name that a client checks the server's certificate for; one that is no host name raises
    `UsageError`. `where` is for the message to a client that speaks no TLS there.
    """

    def __init__(
        self,
        context: ssl.SSLContext | Identities,
        *,
        server_side: bool,
        hostname: str | None = None,
        where: str = "on a TLS port",
    ) -> None:
        self._server_side = server_side
        self._where = where
        self._hostname = hostname
        # What to choose from, by what the client asks for.
        self._identities = context if isinstance(context, Identities) else None
        if isinstance(context, Identities):
            context = context.default
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=hostname
            )
        except (UnicodeError, ValueError) as error:
            raise UsageError(f"TLS can't ask for a host {hostname!r}: {error}") from None
        except ssl.SSLError:
            side = "client" if server_side else "server"
            raise UsageError(
                f"this ssl.SSLContext is for the other side, a {side}: make one with "
                f"ssl.PROTOCOL_TLS_{'SERVER' if server_side else 'CLIENT'}"
            ) from None
        # CPython lets other threads run while OpenSSL works, and OpenSSL works on one connection
        # in one thread at a time. (CPython has a lock of its own for that from 3.14 on.)
        self._lock = threading.Lock()
        self._asked = Asked()
        # What has come and was not handed to OpenSSL yet. Its buffers never shrink: a connection
        # that was once handed 256 KiB at a time would keep as much to its end. So it gets its
        # input record by record; and what it does with it can be counted.
        self._held = b""
        self._given = 0
        self._of_record = 0  # how many bytes are still to come of the record that was given last
        #: How many bytes have come of a record that is not whole yet.
        self.partial = 0
        # What looks at it before, while clients are not known to be any.
        self._watch = HelloWatch() if server_side else None
        #: How many records were opened.
        self.opened = 0
        # What OpenSSL had to give up before its time, see `shut_down`.
        self._decrypted = b""
        self._started = False
        self._first_sent = b""
        self._established = False
        self._ended = False
        self._cut_off = False
        self._failure: TlsError | None = None
        self._no_protocol = False

    @property
    def established(self) -> bool:
        """Whether the handshake is done."""
        return self._established

    @property
    def version(self) -> str | None:
        """``"TLSv1.3"`` or ``"TLSv1.2"``; None before the handshake."""
        return self._tls.version()

    @property
    def cipher(self) -> str | None:
        """What the connection is encrypted with, such as ``"TLS_AES_256_GCM_SHA384"``."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else None

    @property
    def server_name(self) -> str | None:
        """The host that the client has asked for (SNI, RFC 6066, 3), as it has written it; None: it
        has asked for none, or not yet. At the end of the client, what its server's certificate is
        checked for."""
        return self._asked.server_name if self._server_side else self._hostname

    @property
    def alpn(self) -> str | None:
        """The protocol that the server has chosen of those that the client has offered (RFC 7301),
        such as ``"h2"``; None: the client has offered none, or the server does not choose."""
        return self._tls.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate, as `ssl.SSLSocket.getpeercert` tells it; None if it sent none."""
        return self._tls.getpeercert() if self._established else None

    # -- the side of the network -----------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what has come from the network. Raises `TlsError` if it can't be TLS at all."""
        with self._lock:
            if not self._started and data:
                self._started = True
                self._check_beginning(data)
            # Almost always, all that came before has been used up.
            self._held = self._held[self._given :] + data if self._held else data
            self._given = 0

    def end_input(self) -> None:
        """The network brings no more. If that is not the end of a TLS stream, then the next call
        that would need more raises `TlsTruncated`."""
        self._cut_off = True

    def take_output(self) -> bytes:
        """All that is to go to the network now."""
        with self._lock:
            return self._take()

    @property
    def output_pending(self) -> int:
        """How many bytes `take_output` would return. What `encrypt` makes is not among them, though
        another thread be within it: who receives must not wait for the peer to read that."""
        with self._lock:
            return self._outgoing.pending

    @property
    def behind(self) -> bool:
        """Whether there is input that was not processed yet. Then let other tasks run, and call
        `handshake` or `decrypt` again before feeding more."""
        return len(self._held) - self._given >= (1 if self._of_record else _HEAD)

    @property
    def ended(self) -> bool:
        """Whether `decrypt` has come to the end of the peer's stream."""
        return self._ended

    @property
    def held(self) -> int:
        """How many bytes are kept here that have come, or are to go."""
        given = max(self._incoming.pending, self.partial)
        come = len(self._held) + given + len(self._decrypted)
        return come + self._outgoing.pending

    # -- the side of the user --------------------------------------------------------------------

    def handshake(self) -> bool:
        """Go on with the handshake as far as what has come allows. True once it is done."""
        with self._lock:
            self._check()
            last = self.opened + RECORDS_IN_A_ROW
            while not self._established:
                try:
                    self._tls.do_handshake()
                    self._established = True
                    continue
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    raise self._failed(error) from None
                if self.opened >= last:
                    return False
                if not self._give_more():
                    self._check_cut_off()
                    return False
        return True

    def decrypt(self, most: int) -> bytes | None:
        """At least 1 and at most `most` bytes of plain text; ``b""`` when the peer has ended its
        stream; None when more must come from the network first, or the session is `behind`."""
        with self._lock:
            if self._decrypted:
                data, self._decrypted = self._decrypted[:most], self._decrypted[most:]
                return data
            chunks: list[bytes] = []
            last = self.opened + RECORDS_IN_A_ROW
            while most > 0 and not self._ended and self._failure is None:
                # OpenSSL gives one record at a time. To try in vain would cost an exception.
                if not (
                    self._incoming.pending
                    or (self._held and self._give_more())
                    or self._tls.pending()
                ):
                    break
                try:
                    data = self._tls.read(min(most, RECORD))
                except ssl.SSLWantReadError:
                    if self.opened >= last:
                        break
                    continue
                except ssl.SSLZeroReturnError:
                    # Where close_notify was sent already; CPython returns b"" only where not.
                    data = b""
                except ssl.SSLError as error:
                    self._failed(error)
                    break
                if data:
                    chunks.append(data)
                    most -= len(data)
                    if self.opened >= last:
                        break
                else:
                    self._ended = True
            if chunks:
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)
            if self._ended:
                return b""
            self._check()
            if not self.behind:
                self._check_cut_off()
            return None

    def encrypt(self, data: Data) -> bytes:
        """Encrypt `data`, at most 16 KiB. Returns all that is to go to the network now."""
        with self._lock:
            self._check()
            try:
                self._tls.write(data)
            except ssl.SSLError as error:
                raise self._failed(error) from None
            return self._take()

    def shut_down(self) -> None:
        """Tell the peer that no more will be sent: close_notify. Receiving goes on.

        RFC 8446, 6.1: "This does not have any effect on its read side of the connection."
        """
        with self._lock:
            self._check()
            # OpenSSL's SSL_shutdown sends the alert, and CPython calls it a second time at once,
            # to see whether the peer has sent its own. If it finds data instead, it fails, and the
            # data is lost. So it must find nothing: neither data that is decrypted already, nor
            # data that is not.
            while pending := self._tls.pending():
                self._decrypted += self._tls.read(pending)
            withheld = self._incoming.read()
            try:
                with contextlib.suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
            except ssl.SSLError as error:
                raise self._failed(error) from None
            finally:
                self._incoming.write(withheld)

    def fail(self, error: TlsError) -> None:
        """From now on all of the above raises `error`, unless there is a failure already."""
        if self._failure is None:
            self._failure = error

    # -- within ----------------------------------------------------------------------------------

    def _take(self) -> bytes:
        data = self._outgoing.read()
        if not self._first_sent:
            self._first_sent = data[:_MAX_SHOWN]
        return data

    def _give_more(self) -> bool:
        """Hand OpenSSL the next record of what has come, or what there is of it. False when that
        is nothing, or less than tells how long the record is."""
        held, start = self._held, self._given
        size = len(held) - start
        whole = self._of_record
        if size < (1 if whole else _HEAD):
            return False
        if not whole:
            whole = _HEAD + (held[start + 3] << 8 | held[start + 4])
            self.opened += 1
        if self._watch is not None:
            self._look_first(held[start : start + min(size, whole)])
        if size > whole:
            self._incoming.write(held[start : start + whole])
            self._given = start + whole
            self._of_record = self.partial = 0
        else:
            self._incoming.write(held[start:] if start else held)
            self._held = b""
            self._given = 0
            self._of_record = whole - size
            self.partial = self.partial + size if self._of_record else 0
        return True

    def _look_first(self, data: bytes) -> None:
        """Raise `TlsError` for a ClientHello that is too long; before OpenSSL makes room for it."""
        assert self._watch is not None
        if not self._of_record:
            self._watch.begin(data[0], self._first_sent)
            data = data[_HEAD:]
        length = self._watch.follow(data)
        if length is not None:
            text = f"a ClientHello of {length} bytes: the most is {MAX_HELLO}"
            self._failure = TlsError(text)
            raise self._failure
        if self._watch.asked is not None and self._watch.asked is not self._asked:
            self._asked = self._watch.asked
            if self._identities is not None:
                self._choose(self._identities)
        if self._watch.over:
            self._watch = None

    def _choose(self, identities: Identities) -> None:
        """Show what the client has asked for. Raises `TlsError` where it offers protocols, and none
        of ours: RFC 7301, 3.2, has that as an error, and OpenSSL as CPython uses it goes on
        without. (So whoever speaks another protocol can't be led here; see ALPACA.)"""
        context = identities.context_for(self._asked.server_name)
        if context is not identities.default:
            self._tls.context = context
        offered = [each.decode("ascii", "backslashreplace") for each in self._asked.alpn]
        if offered and identities.alpn and not set(offered) & set(identities.alpn):
            self._outgoing.write(_NO_APPLICATION_PROTOCOL)
            few = ", ".join(offered[:_MAX_SHOWN])
            self._failure = TlsError(f"no application protocol in common: the client offers {few}")
            raise self._failure

    def _check_cut_off(self) -> None:
        """More is needed. Raise `TlsTruncated` when there will be none."""
        if not self._cut_off:
            return
        who = "client" if self._server_side else "server"
        if self._established:
            text = f"the {who} ended the connection without TLS's own end"
        elif self._started:
            text = f"the {who} left in the middle of the TLS handshake"
        else:
            text = f"the {who} left before the TLS handshake"
        self._failure = TlsTruncated(text)
        raise self._failure

    def _check(self) -> None:
        """What has failed stays so."""
        if self._failure is not None:
            raise self._failure

    def _check_beginning(self, data: bytes) -> None:
        """OpenSSL would know some of it by its first bytes, and send an alert into it."""
        start = data[:_MAX_SHOWN]
        # CPython 3.11 has no name for this alert. It comes instead of the peer's first message.
        refused = data[:1] == _ALERT_RECORD and data[6:7] == _NO_APPLICATION_PROTOCOL[-1:]
        self._no_protocol = refused and not self._server_side
        echoed = len(start) == _MAX_SHOWN and start == self._first_sent
        if data[0] in _BEGINNINGS and not echoed:
            return
        if self._server_side:
            kind = "plain text" if _is_text(start) else "something that is no TLS"
            text = f"{kind} {self._where}: {start!r}"
        elif echoed:
            text = "the server sends back what it gets: it does not speak TLS"
        else:
            text = f"the server does not speak TLS: it said {start!r}"
        self._failure = TlsError(text)
        raise self._failure

    def _failed(self, error: ssl.SSLError) -> TlsError:
        """`error` in our words. It is what every later call raises, too."""
        text = NO_PROTOCOL if self._no_protocol else explain(error, server_side=self._server_side)
        self._failure = TlsError(text)
        return self._failure


def _is_text(data: bytes) -> bool:
    return all(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in data)
