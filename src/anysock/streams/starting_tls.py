"""`Connection.start_tls`: TLS from the middle of a conversation, as after STARTTLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Protocol

from anysock.engines.base import Stream
from anysock.engines.current import current_engine
from anysock.errors import StreamBusy, TlsError, TlsInjection, UsageError, WrongType
from anysock.net.certificates import Identities, default_client_context
from anysock.streams.tls import TlsStream
from anysock.streams.tls_offer import TlsOffer
from anysock.streams.wrapping import WrappedStream


class Connection(Protocol):
    """What is needed of a connection."""

    server_name: str | None
    tls_offer: TlsOffer | None

    @property
    def stream(self) -> Stream: ...
    def discard_buffered(self) -> int: ...
    def wrap(self, make: Callable[[Stream], Stream]) -> None: ...


async def start_tls(
    connection: Connection,
    context: ssl.SSLContext | None,
    *,
    server_side: bool,
    server_name: str | None,
) -> None:
    """What `Connection.start_tls` says."""
    offer = connection.tls_offer
    if server_side and server_name is not None:
        raise UsageError("start_tls(): server_name= is for the side of the client, which asks")
    chosen = _usable(context, offer, server_side=server_side)
    hostname = None if server_side else server_name or connection.server_name

    asks = not server_side and isinstance(chosen, ssl.SSLContext) and chosen.check_hostname
    if asks and hostname is None:
        raise UsageError(
            "start_tls(): server_name= is missing, the host that the server's certificate is for"
        )

    def make(inner: Stream) -> TlsStream:
        secure = TlsStream(
            inner,
            chosen,
            server_side=server_side,
            hostname=hostname,
            costly=offer.costly if offer is not None and server_side else None,
            where="where TLS was to begin",
        )
        if offer is not None and offer.recv_size is not None:
            secure.set_recv_size(offer.recv_size)
        return secure

    around = connection.stream
    if isinstance(around, WrappedStream):
        await around.until_handed_on()
    if around.receiving or around.sending:
        doing = "receives" if around.receiving else "sends"
        raise StreamBusy(f"start_tls() while another task {doing} here")
    if isinstance(around, WrappedStream) and not around.opaque:
        # Limits, faults and the trace of -v are about the conversation, as where TLS is spoken
        # from the beginning.
        secure = around.put_inside(make)
        injected = connection.discard_buffered()
    else:
        secure = make(around)
        injected = connection.discard_buffered()
        connection.wrap(lambda _: secure)
    if injected:
        who = "client" if server_side else "server"
        raise secure.refuse(
            TlsInjection(
                f"{injected} bytes came in plain text behind the {who}'s last line before TLS: "
                "somebody on the way may have put them there"
            )
        )
    await _shake_hands(secure, offer.timeout if offer is not None else None)


def _usable(
    context: ssl.SSLContext | None, offer: TlsOffer | None, *, server_side: bool
) -> ssl.SSLContext | Identities:
    """What to speak with."""
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise WrongType(f"start_tls() takes an ssl.SSLContext, not {context!r}")
        return context
    if not server_side:
        return default_client_context()
    if offer is None or offer.certificates is None:
        raise UsageError(
            "start_tls(): there is no certificate to show: pass an ssl.SSLContext, or give the "
            "server the option tls_cert"
        )
    return offer.certificates.identities


async def _shake_hands(secure: TlsStream, seconds: float | None) -> None:
    """The handshake, in at most `seconds`. If it fails, nothing is received or sent any more."""
    try:
        async with current_engine().scope(seconds):
            await secure.handshake()
            return
    except BaseException:
        secure.refuse(TlsError("the TLS handshake was given up on its way"))
        raise
    raise secure.refuse(TlsError(f"the TLS handshake took longer than {seconds:g} seconds"))
