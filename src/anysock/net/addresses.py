"""Addresses: how they are written, and what the resolver makes of them."""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from anysock.engines.base import Binding, Machine, SockAddr
from anysock.errors import StartError, UsageError, WrongType
from anysock.net.printable import printable

#: The schemes, with what each is for.
SCHEMES = {
    "tcp": "TCP",
    "tls": "TLS over TCP",
    "udp": "UDP",
    "unix": "a Unix socket",
    "tls+unix": "TLS over a Unix socket",
    "fd": "an inherited descriptor that listens",
    "tls+fd": "TLS on one",
    "systemd": "what systemd hands over (all, or systemd://NAME)",
    "tls+systemd": "TLS on that",
}

#: The kinds of addresses that a client can send to; a server alone uses the others.
REACHABLE = ("tcp", "tls", "udp", "unix", "tls+unix")
#: The kinds of addresses that a client can connect to.
CONNECTABLE = ("tcp", "tls", "unix", "tls+unix")

#: How addresses are written, for messages and help.
FORMS = "host:port, [v6]:port, tcp://, tls:// or udp:// before it, or unix:///path"

# Neither blanks nor control characters: getaddrinfo(3) sees a host only up to its first NUL, and
# would take 127.0.0.1\0.example for 127.0.0.1.
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[^\[\]\s\0-\x1f\x7f]*)\]|(?P<host>[^\[\]:\s\0-\x1f\x7f]*)):(?P<port>\d{1,9})",
    re.ASCII,
)

# The longest path of a Unix socket, in bytes (unix(7): sun_path, with the NUL that ends it).
_LONGEST_PATH = 107


@dataclass(frozen=True)
class Address:
    """Where to listen, or to connect. ``str(address)`` is what `parse` reads."""

    #: A host, by name or by number.
    host: str = ""
    port: int = 0
    scheme: str = "tcp"
    #: The path of a Unix socket; one that begins with ``@`` is abstract (unix(7)).
    path: str = ""
    #: The permissions of a Unix socket's file; None leaves them to the umask.
    mode: int | None = None
    #: The number of an inherited descriptor.
    fd: int = -1
    #: The name that systemd has for sockets that it hands over (FileDescriptorName=); empty: all.
    name: str = ""

    @property
    def kind(self) -> str:
        """The scheme without its TLS: ``tcp``, ``udp``, ``unix``, ``fd`` or ``systemd``."""
        return "tcp" if self.scheme == "tls" else self.scheme.removeprefix("tls+")

    @property
    def tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme.startswith("tls")

    @classmethod
    def parse(
        cls, text: str, *, default_host: str = "", schemes: Collection[str] = tuple(SCHEMES)
    ) -> Address:
        """Read an address: ``host:port``, ``[v6]:port`` or ``:port``, alone or after ``tcp://``,
        ``tls://`` or ``udp://``; ``unix:///path`` (``?mode=660``), ``fd://3``, ``systemd://NAME``;
        ``tls+`` before one of these.

        ``:port`` means `default_host`; what no host at all means, `resolve` says. Raises
        `UsageError`, with what is wrong and what to write instead: nothing but what `schemes`
        allows, which are those that the caller can do something with.
        """
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "tcp", text
        if scheme not in schemes:
            if scheme not in SCHEMES:
                wrong = f"unknown scheme {scheme!r}"
            elif scheme == "udp":
                wrong = "over UDP there are no connections"
            elif scheme in REACHABLE:
                wrong = f"{scheme}:// can't be used here"
            else:
                wrong = f"{scheme}:// is for a server, to listen on"
            hint = ", ".join(f"{each}://" for each in SCHEMES if each in schemes)
            if tuple(schemes) == ("tcp",):
                hint = "host:port"
            raise UsageError(f"bad address {text!r}: {wrong}, use {hint}")
        kind = "tcp" if scheme == "tls" else scheme.removeprefix("tls+")
        if kind == "unix":
            path, mode = _unix(text, rest)
            return cls(scheme=scheme, path=path, mode=mode)
        if kind == "fd":
            if not (rest.isascii() and rest.isdigit() and len(rest) < 7):
                raise UsageError(
                    f"bad address {text!r}: write the descriptor's number, as in fd://3"
                )
            return cls(scheme=scheme, fd=int(rest))
        if kind == "systemd":
            if not re.fullmatch(r"[^\0-\x1f\x7f/:\s]*", rest):
                raise UsageError(f"bad address {text!r}: write systemd:// or systemd://NAME")
            return cls(scheme=scheme, name=rest)
        match = _HOST_AND_PORT.fullmatch(rest)
        if match is None:
            hint = f"write {_forms(schemes)}"
            if rest.count(":") > 1 and "[" not in rest:
                hint = "put an IPv6 address in brackets, as in [::1]:8000"
            raise UsageError(f"bad address {text!r}: {hint}")
        port = int(match["port"])
        if port > 65535:
            raise UsageError(f"bad address {text!r}: a port is a number from 0 to 65535")
        v6 = match["v6"]
        if v6 is not None and not _is_ipv6(v6):
            raise UsageError(
                f"bad address {text!r}: brackets are for IPv6 addresses, as in [::1]:8000"
            )
        return cls(match["host"] or default_host if v6 is None else v6, port, scheme)

    @classmethod
    def of(cls, value: object, *, schemes: Collection[str] = tuple(SCHEMES)) -> Address:
        """`value`, if it is an address; a text is read by `parse`, for `schemes`. Raises
        `UsageError`, and `WrongType` for what is neither."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return _parsed(value, tuple(schemes))
        match value:
            case (str() as host, int() as port, *_):
                hint = f'"{_bracketed(host)}:{port}"'
            case int():
                hint = f'"127.0.0.1:{value}"'
            case _:
                hint = '"127.0.0.1:8000"'
        raise WrongType(f"expected an address as a text, such as {hint}, not {value!r}")

    @property
    def server_name(self) -> str:
        """The host that a TLS client asks for, and expects a certificate of: without the final dot
        of a DNS name (RFC 6066, 3), and without the interface after the % of an address. Without a
        host it is localhost."""
        return self.host.partition("%")[0].removesuffix(".") or "localhost"

    @functools.cached_property
    def is_name(self) -> bool:
        """Whether the host is a name, so that resolving it may take the resolver some time."""
        if self.kind == "unix" or not self.host or _is_ipv6(self.host):
            return False
        try:
            socket.inet_aton(self.host)  # as the resolver reads numbers, such as 127.1
        except (OSError, UnicodeError):
            return True
        return False

    @property
    def short(self) -> str:
        """As one would type it: without a ``tcp://``."""
        return str(self).removeprefix("tcp://")

    def __str__(self) -> str:
        if self.kind == "unix":
            mode = "" if self.mode is None else f"?mode={self.mode:03o}"
            path = urllib.parse.quote(self.path, safe="/@", errors="surrogateescape")
            return f"{self.scheme}://{path}{mode}"
        if self.kind == "fd":
            return f"{self.scheme}://{self.fd}"
        if self.kind == "systemd":
            return f"{self.scheme}://{self.name}"
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"


def _forms(schemes: Collection[str]) -> str:
    """How addresses of these schemes are written."""
    before = [f"{each}://" for each in ("tcp", "tls", "udp") if each in schemes]
    said = ["host:port", "[v6]:port"]
    if before[1:]:
        said.append(f"{', '.join(before[:-1])} or {before[-1]} before it")
    special = {"unix": "unix:///path", "fd": "fd://3", "systemd": "systemd://"}
    said += [form for scheme, form in special.items() if scheme in schemes]
    comma = "," if said[2:] else ""
    return f"{', '.join(said[:-1])}{comma} or {said[-1]}"


def _unix(text: str, rest: str) -> tuple[str, int | None]:
    quoted, mark, query = rest.partition("?")
    path = urllib.parse.unquote(quoted, errors="surrogateescape")
    mode: int | None = None
    if mark:
        match = re.fullmatch(r"mode=([0-7]{3,4})", query)
        if match is None:
            raise UsageError(f"bad address {text!r}: after ? comes mode=660 or the like")
        mode = int(match[1], 8)
        if path.startswith("@"):
            raise UsageError(
                f"bad address {text!r}: an abstract socket has no file, and so no mode"
            )
    if not path or "\0" in path:
        raise UsageError(f"bad address {text!r}: write unix:///path, or unix://@name")
    try:
        too_long = len(os.fsencode(path)) > _LONGEST_PATH
    except UnicodeEncodeError:
        raise UsageError(f"bad address {text!r}: that can't be the path of a file") from None
    if too_long:
        raise UsageError(
            f"bad address {text!r}: the path of a Unix socket has at most {_LONGEST_PATH} bytes"
        )
    return path, mode


# Clients connect to the same address again and again.
@functools.lru_cache(256)
def _parsed(text: str, schemes: tuple[str, ...]) -> Address:
    return Address.parse(text, schemes=schemes)


class ResolvedAddress(NamedTuple):
    """What bind(2) and connect(2) take."""

    family: socket.AddressFamily
    sockaddr: SockAddr


def resolve(address: Address, machine: Machine, *, passive: bool) -> list[ResolvedAddress]:
    """All addresses that `address` stands for on `machine`, in the resolver's order, each once.

    With `passive` they are for listening: no host then means every address of the machine, and
    otherwise localhost. Blocks while the resolver does. Raises `StartError` when the name is not
    known, and `UsageError` for an address that a client can't connect to.
    """
    if address.kind == "unix":
        path = address.path
        return [ResolvedAddress(socket.AF_UNIX, "\0" + path[1:] if path[0] == "@" else path)]
    if address.kind not in ("tcp", "udp"):
        raise UsageError(f"{address} is where a server listens: no client can connect to it")
    try:
        found = machine.resolve(address.host or None, address.port, passive=passive)
    except (OSError, UnicodeError) as error:  # UnicodeError: what IDNA says of an impossible name
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartError(f"can't resolve the host {address.host!r}: {reason}") from None
    return list(dict.fromkeys(ResolvedAddress(family, to) for family, to in found))


def binding_of(address: Address, machine: Machine) -> Binding:
    """What `Engine.listen` wants, for `address`. Raises as `resolve` does."""
    if address.kind == "fd":
        return Binding(str(address), fd=address.fd, tls=address.tls)
    found = tuple(resolve(address, machine, passive=True))
    named = address.kind != "unix" and (not address.host or address.is_name)
    return Binding(str(address), found, named=named, mode=address.mode, tls=address.tls)


def format_host(sockaddr: SockAddr) -> str:
    """The host of ``('127.0.0.1', 8000)``; of a Unix socket, its path.

    A link-local address of IPv6 is one host on each link: it has its interface with it, as in
    ``fe80::1%eth0`` (RFC 4007, section 11), and is no address without.
    """
    if isinstance(sockaddr, str):
        return sockaddr
    host, scope = str(sockaddr[0]), sockaddr[3] if len(sockaddr) > 3 else 0
    if not scope or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(scope)}"
    except OSError:  # the interface is gone; or there is no descriptor to ask with
        return f"{host}%{scope}"


def format_sockaddr(sockaddr: SockAddr, scheme: str = "tcp") -> str:
    """``tcp://127.0.0.1:8000`` for what the socket module calls ``('127.0.0.1', 8000)``, and
    ``unix:///run/echo`` for a path. With `scheme` ``tls``, the same with TLS."""
    if isinstance(sockaddr, str):
        tls = "tls+" if scheme == "tls" else ""
        return str(Address(path=sockaddr, scheme=f"{tls}unix"))
    return str(Address(format_host(sockaddr), sockaddr[1], scheme))


def format_peer(sockaddr: SockAddr) -> str:
    """``127.0.0.1:8000`` for what the socket module calls ``('127.0.0.1', 8000)``; of a Unix
    socket, the path. A peer may have chosen it, so it is `printable`."""
    if isinstance(sockaddr, str):
        return printable(sockaddr)
    return printable(f"{_bracketed(format_host(sockaddr))}:{sockaddr[1]}")


def explain_bind_error(error: OSError, scheme: str = "tcp") -> StartError:
    """The error of bind(2) or listen(2) on `error.filename`, with what to do about it."""
    code, where = error.errno or 0, error.filename
    if isinstance(where, str) and "://" in where:  # a descriptor
        if code == errno.EBADF:
            return StartError(f"can't listen on {where}: there is no such descriptor")
        if code == errno.ENOTSOCK:
            return StartError(f"can't listen on {where}: it is no socket")
        return StartError(f"can't listen on {where}: {error.strerror}")
    unix = isinstance(where, str)
    what_to_do = {
        errno.EADDRINUSE: "another program listens there; stop it, or choose another "
        + ("path" if unix else "port"),
        errno.EACCES: "this user may not write in that folder"
        if unix
        else "a port below 1024 needs the right to it (CAP_NET_BIND_SERVICE); choose a higher one",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address",
        errno.EAFNOSUPPORT: "the kernel of this machine has none of its kind"
        + (", IPv6" if isinstance(where, tuple) and ":" in where[0] else ""),
        errno.ENOENT: "there is no such folder",
        errno.ENOTSOCK: "a file is there that is no socket; remove it, or choose another path",
    }.get(code)
    reason = os.strerror(code) if code else str(error)
    told = format_sockaddr(where, scheme) if where else "the address"
    return StartError(f"can't listen on {told}: {reason}{f': {what_to_do}' if what_to_do else ''}")


def _is_ipv6(host: str) -> bool:
    """Whether `host` is an IPv6 address, with or without a scope (RFC 4007, section 11)."""
    literal, percent, scope = host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6, literal)
    except (OSError, UnicodeError):
        return False
    return bool(scope) or not percent


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
