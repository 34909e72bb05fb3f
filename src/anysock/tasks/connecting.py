"""Connecting: whom to, where from, how long to try, and whether by TLS."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from anysock.engines.base import Datagrams, Engine, Machine, SockAddr, Stream
from anysock.engines.current import current_engine
from anysock.errors import TlsError, UsageError, WrongType
from anysock.net.addresses import CONNECTABLE, REACHABLE, Address, ResolvedAddress, resolve
from anysock.streams.connection import Connection
from anysock.tasks import arguments
from anysock.tasks.happy_eyeballs import connect_to_any

if TYPE_CHECKING:
    import ssl


async def connect(
    address: str | Address,
    *,
    local: str | Address | None = None,
    timeout: float | None = None,
    trying: Callable[[SockAddr], object] | None = None,
    tls: ssl.SSLContext | None = None,
    alpn: Sequence[str] | None = None,
) -> Connection:
    """Connect to `address`, such as ``"example.com:7"``, ``"tls://[::1]:7"`` or
    ``"unix:///run/echo"``.

    When the name has several addresses, the first that answers is taken: an IPv6 and an IPv4 one
    are tried in turn, each once the one before has failed, or has not answered for 250 ms (RFC
    8305, happy eyeballs). `trying`, if given, is called with each before it is tried.

    `local` is the address of this machine to connect from, such as ``"192.0.2.7"``; with a port, as
    in ``"192.0.2.7:5000"`` or ``"[2001:db8::7]:5000"``, that is used, too. Addresses of the
    other family are not tried then. `timeout` is how many seconds all of it may take: looking up
    the name, connecting, and the handshake of TLS. None: as long as the system tries, about two
    minutes for each address.

    For an address that begins with ``tls``, `tls` is the context to use; None trusts the
    authorities that the system trusts, and wants a certificate for the host that was given. `alpn`
    are the protocols to offer, the favourite first, such as ``["h2", "http/1.1"]`` (RFC 7301);
    which one the server has chosen, `Connection.tls` says. A context of your own offers what was
    set by its `set_alpn_protocols`.

    Raises `UsageError` for an address that makes no sense, `StartError` for a name that is not
    known, TimeoutError after `timeout`, which names the address, OSError when none answers, which
    names the addresses that were tried, and `TlsError` when the handshake of TLS fails: when the
    peer can't be trusted, no other address is tried.
    A socket that connects to a local port where no program listens may get that very port for its
    own end, and so meet itself (RFC 9293, 3.5): that is a ConnectionRefusedError.
    """
    return await connect_with(
        address, local=local, timeout=timeout, trying=trying, tls=tls, alpn=alpn
    )


async def connect_with(
    address: str | Address,
    *,
    local: str | Address | None = None,
    timeout: float | None = None,
    trying: Callable[[SockAddr], object] | None = None,
    tls: ssl.SSLContext | None = None,
    alpn: Sequence[str] | None = None,
    family: int | None = None,
    preface: Callable[[Stream], bytes] | None = None,
) -> Connection:
    """`connect`, with what a client of ours may ask for besides: to try addresses of one `family`
    only (`socket.AF_INET`, `AF_INET6`), and to send ``preface(stream)`` before anything else, also
    before a handshake of TLS. Raises what `connect` does."""
    engine = current_engine()
    address = Address.of(address, schemes=CONNECTABLE)
    if address.kind == "udp":
        raise UsageError(f"{address}: over UDP there are no connections")
    if trying is not None and not callable(trying):
        raise WrongType(f"trying= takes a function, not {trying!r}")
    arguments.check_seconds(timeout, "connect", none=True)
    _check_tls(tls, alpn, address)
    source = None if local is None else _source(local, address, engine.machine)
    async with engine.scope(timeout):
        candidates = await _candidates(engine, address, source, bounded=timeout is not None)
        candidates = of_family(candidates, family, address)
        if address.tls and tls is None:
            from anysock.net.certificates import default_client_context

            tls = default_client_context(tuple(alpn or ()))
        from_where = None if source is None else source.sockaddr
        _, stream = await connect_to_any(engine, candidates, trying=trying, local=from_where)
        if preface is not None:
            await _send_first(stream, preface(stream))
        connection = Connection(stream)
        if address.host:
            connection.server_name = address.server_name
        if address.tls:
            assert tls is not None
            await _shake_hands(connection, tls, address.server_name)
        return connection
    raise TimeoutError(errno.ETIMEDOUT, f"not connected after {timeout:g} seconds", address.short)


async def _candidates(
    engine: Engine, address: Address, source: ResolvedAddress | None, *, bounded: bool
) -> list[ResolvedAddress]:
    """The addresses to try; with a `source`, those of its family."""
    if address.is_name:
        found = await _looked_up(engine, address, bounded=bounded)
    else:
        found = resolve(address, engine.machine, passive=False)
    if source is not None:
        found = [each for each in found if each.family == source.family]
        if not found:
            told = f"it has no address that can be reached from {source.sockaddr[0]}"
            raise OSError(errno.EAFNOSUPPORT, told, address.short)
    return found


def of_family(
    found: list[ResolvedAddress], family: int | None, address: Address
) -> list[ResolvedAddress]:
    """Those of `found`, the addresses of `address`, that are of `family`; None: all. Raises OSError
    when there is none."""
    if family is None:
        return found
    kept = [each for each in found if each.family == family]
    if not kept:
        version = "IPv6" if family == socket.AF_INET6 else "IPv4"
        raise OSError(errno.EAFNOSUPPORT, f"it has no address of {version}", address.short)
    return kept


async def _send_first(stream: Stream, data: bytes) -> None:
    try:
        await stream.send_all(data)
    except BaseException:
        stream.abort()
        await stream.close()
        raise


async def connect_datagrams(address: str | Address, *, family: int | None = None) -> Datagrams:
    """A UDP socket whose peer is at `address`, such as ``"udp://example.com:7"``.

    Nothing is sent, so that the peer may not be there: of several addresses of a name, those of
    `family` if there is one, the first is taken that this machine has a route to. Raises
    `UsageError` for an address that makes no sense, `StartError` for a name that is not known, and
    OSError when there is no route."""
    engine = current_engine()
    address = Address.of(address, schemes=REACHABLE)
    return datagrams_to(engine, of_family(await _looked_up(engine, address), family, address))


def datagrams_to(engine: Engine, candidates: Sequence[ResolvedAddress]) -> Datagrams:
    """A UDP socket, connected to the first of `candidates` that this machine has a route to.
    Raises the OSError of the last."""
    for family, address in candidates[:-1]:
        with contextlib.suppress(OSError):
            return engine.open_datagrams(family, address, connect=True)
    return engine.open_datagrams(*candidates[-1], connect=True)


async def _looked_up(
    engine: Engine, address: Address, *, bounded: bool = False
) -> list[ResolvedAddress]:
    """`resolve`, while others run: the resolver may block for seconds. With `bounded`, a deadline
    can end it, whatever the engine: then the resolver is left to itself."""
    look_up = functools.partial(resolve, address, engine.machine, passive=False)
    if not bounded:
        return await engine.to_thread(look_up)
    # Where waiting means to sleep, `to_thread` sleeps as long as the resolver does.
    answer: list[Callable[[], list[ResolvedAddress]]] = []
    answered = engine.event()

    async def ask() -> None:
        try:
            found = await engine.to_thread(look_up)
            answer.append(lambda: found)
        except Exception as error:  # noqa: BLE001
            answer.append(functools.partial(_raise, error))
        finally:
            answered.set()

    task = engine.spawn_background(ask(), name=f"look up {address.host}")
    try:
        await answered.wait()
    except BaseException:
        task.cancel()
        raise
    return answer[0]()


def _raise(error: Exception) -> Any:
    raise error


def _source(local: str | Address, address: Address, machine: Machine) -> ResolvedAddress:
    """Where to connect from. Raises `UsageError` for what is no address of a machine."""
    if address.kind == "unix":
        raise UsageError(f"{address}: local= is for addresses of IP")
    if isinstance(local, Address):
        found = local
    else:
        found = Address.of(_with_port(local) if isinstance(local, str) else local, schemes=("tcp",))
    if found.scheme != "tcp" or not found.host or found.is_name:
        raise UsageError(
            f"local= takes an IP address of this machine, such as 192.0.2.7, or [::1]:5000 with "
            f"a port; not {local!r}"
        )
    return resolve(found, machine, passive=True)[0]


def _with_port(text: str) -> str:
    """An address with a port, where it may have none."""
    if text.startswith("["):
        return f"{text}:0" if text.endswith("]") else text
    if text.count(":") > 1:
        return f"[{text}]:0"
    return text if ":" in text else f"{text}:0"


def _check_tls(context: Any, alpn: Sequence[str] | None, address: Address) -> None:
    # A caller that asks for TLS must not be left with plain text.
    for name, value in (("tls", context), ("alpn", alpn)):
        if value is not None and not address.tls:
            raise UsageError(
                f"{address}: {name}= is for an address that begins with tls, as tls://host:7"
            )
    if context is not None:
        import ssl

        if not isinstance(context, ssl.SSLContext):
            raise WrongType(f"tls= takes an ssl.SSLContext, not {context!r}")
        if alpn is not None:
            raise UsageError(
                "alpn= is for a context of ours: call set_alpn_protocols() on the one of tls="
            )


async def _shake_hands(connection: Connection, context: ssl.SSLContext, hostname: str) -> None:
    """Speak TLS on a fresh connection. If that fails, it is closed."""
    from anysock.streams.tls import TlsStream

    try:
        stream = TlsStream(connection.stream, context, server_side=False, hostname=hostname)
        connection.wrap(lambda _: stream)
        await stream.handshake()
    except TlsError:
        await connection.close()  # so that the server gets the alert
        raise
    except BaseException:
        connection.abort()
        await connection.close()
        raise
