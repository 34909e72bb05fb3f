"""Certificates and keys: from files to what TLS needs of them, with a clear word on each fault."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from anysock.errors import StartError
from anysock.machine.chance import repeatable
from anysock.net.x509 import dns_names, validity

File: TypeAlias = str | os.PathLike[str]

# RFC 8996: older ones must not be used.
OLDEST = ssl.TLSVersion.TLSv1_2

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"


def server_context(
    cert: File, key: File | None = None, client_ca: File | None = None
) -> ssl.SSLContext:
    """What a server needs to speak TLS 1.2 and 1.3.

    `cert` is a PEM file with the server's certificate, and after it those between it and the CA;
    `key` one with its private key, which may also be in `cert`. With `client_ca`, a PEM file with
    the certificates of CAs, a client must have a certificate of one of these (mutual TLS).

    Raises `StartError` for a file that can't be read, that holds no such thing, or a key that
    needs a pass phrase or belongs to another certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = OLDEST
    # TLS 1.2 lets a client ask for a new handshake, again and again.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if repeatable():
        # In a ticket there is the time of the real clock (RFC 8446, 4.6.1).
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    _load_identity(context, cert, key)
    if client_ca is not None:
        _load_ca(context, client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    ca: File | None = None,
    insecure: bool = False,
    cert: File | None = None,
    key: File | None = None,
) -> ssl.SSLContext:
    """What a client needs to speak TLS 1.2 and 1.3.

    The server's certificate must be valid for the requested host, and signed by a CA in the PEM
    file `ca` (None: by one that the system trusts). `insecure` skips both checks: for tests only.
    `cert` and `key` are for a server that asks its clients for a certificate.

    Raises `StartError` as `server_context` does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = OLDEST
    context.options |= ssl.OP_NO_RENEGOTIATION
    if ca is not None:
        _load_ca(context, ca)
    elif not insecure:
        context.load_default_certs()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        _load_identity(context, cert, key)
    return context


@functools.cache
def default_client_context(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """`client_context()`, made once: to read the certificates of the system takes 10 ms. It offers
    the protocols `alpn`."""
    context = client_context()
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


@dataclass(frozen=True)
class Identities:
    """What a server shows, as its files were at one time: a certificate for each name."""

    #: For clients that ask for no name, or for one that no certificate is for.
    default: ssl.SSLContext
    #: By name; and those for ``*.example.com`` by ``example.com``.
    exact: Mapping[str, ssl.SSLContext]
    wildcards: Mapping[str, ssl.SSLContext]
    #: The protocols that may be chosen (ALPN), the favourite first; empty: none is.
    alpn: tuple[str, ...] = ()

    def context_for(self, name: str | None) -> ssl.SSLContext:
        """The one to show to a client that asks for `name`. An asterisk stands for one label (RFC
        9525, 6.3), and what is exact goes before it."""
        if name is None:
            return self.default
        name = name.lower().removesuffix(".")
        label, _, rest = name.partition(".")
        found = self.exact.get(name) or (self.wildcards.get(rest) if label else None)
        return found or self.default


@dataclass
class Certificates:
    """The certificates of a server that goes on while they are renewed.

    `identities` is what a new connection takes; `reload` replaces it when the files have changed.
    `cert` may be several files, each with a certificate of its own: a client gets the first that is
    for the name that it asks for (SNI, RFC 6066, 3), or else the first of all. Then `key` is as
    many files, or none. `alpn` are the protocols to choose from, the favourite first (RFC 7301).
    The fields are those of `server_context` besides, which says what is raised.
    """

    cert: File | Sequence[File]
    key: File | Sequence[File] | None = None
    client_ca: File | None = None
    alpn: Sequence[str] = ()
    identities: Identities = field(init=False, repr=False)
    #: What is wrong with the dates of `cert`; see `doubts_about`.
    doubts: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.reload()

    @property
    def context(self) -> ssl.SSLContext:
        """What is shown to a client that asks for no name."""
        return self.identities.default

    def reload(self) -> None:
        """Read the files again. Connections that there are keep what they have agreed on.

        Raises `StartError` when something is wrong with them; then all stays as it was.
        """
        files = _several(self.cert)
        keys = _several(self.key) if self.key else [None] * len(files)
        pairs = list(zip(files, keys, strict=True))
        contexts = [server_context(cert, key, self.client_ca) for cert, key in pairs]
        exact: dict[str, ssl.SSLContext] = {}
        wildcards: dict[str, ssl.SSLContext] = {}
        for cert, context in zip(files, contexts, strict=True):
            if self.alpn:
                context.set_alpn_protocols(self.alpn)
            for name in names_of(cert):
                by_name = wildcards if name.startswith("*.") else exact
                by_name.setdefault(name.removeprefix("*."), context)
        self.doubts = tuple(doubt for cert in files for doubt in doubts_about(cert))
        self.identities = Identities(contexts[0], exact, wildcards, tuple(self.alpn))


def _several(files: File | Sequence[File]) -> Sequence[File]:
    return [files] if isinstance(files, str | os.PathLike) else files


def names_of(cert: File) -> tuple[str, ...]:
    """The host names that the first certificate in the PEM file `cert` is for, in lower case. None
    for one that can't be read."""
    first = _PEM.search(_read(cert, "certificate").decode("ascii", "replace"))
    try:
        names = dns_names(ssl.PEM_cert_to_DER_cert(first[0])) if first else ()
    except (ValueError, IndexError):
        return ()
    return tuple(name.lower().removesuffix(".") for name in names)


def doubts_about(cert: File, now: dt.datetime | None = None) -> tuple[str, ...]:
    """One line for each certificate in the PEM file `cert` that has expired, or is not yet valid.
    OpenSSL presents such a certificate without a word, and clients refuse it (RFC 5280, 6.1.3).
    A certificate whose dates can't be read has no line. `now` is for tests."""
    now = now or dt.datetime.now(dt.UTC)
    found = []
    # Its text is ASCII; what stands around the certificates may be anything.
    text = _read(cert, "certificate").decode("ascii", "replace")
    for number, pem in enumerate(_PEM.findall(text), 1):
        try:
            begin, end = validity(ssl.PEM_cert_to_DER_cert(pem))
        except (ValueError, IndexError):
            continue
        which = "the certificate" if number == 1 else f"certificate {number}"
        if now > end:
            found.append(f"{which} in {_name(cert)} expired on {end:%Y-%m-%d %H:%M} UTC")
        elif now < begin:
            found.append(f"{which} in {_name(cert)} is not valid before {begin:%Y-%m-%d %H:%M} UTC")
    return tuple(found)


_PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class _AskedForPassPhraseError(Exception):
    pass


def _load_identity(context: ssl.SSLContext, cert: File, key: File | None) -> None:
    """Let `context` show the certificate in `cert`, and prove it with the key in `key`."""
    where = cert if key is None else key
    if _CERTIFICATE not in _read(cert, "certificate"):
        raise StartError(f"no certificate in {_name(cert)}: a PEM file is wanted")
    if _KEY not in _read(where, "key"):
        raise StartError(f"no private key in {_name(where)}: a PEM file is wanted")
    try:
        # Without a function to ask, OpenSSL would ask at the terminal.
        context.load_cert_chain(cert, key, _refuse)
    except _AskedForPassPhraseError:
        raise StartError(
            f"the key in {_name(where)} needs a pass phrase, and a server can't type one: "
            "use one without, as `openssl pkey` writes it"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = f"the key in {_name(where)} does not belong to the certificate in {_name(cert)}"
        elif error.reason in _TOO_WEAK:
            text = f"the certificate or key in {_name(cert)} is too weak for OpenSSL"
        elif _is_damaged(lambda: client_context(insecure=True).load_verify_locations(cert)):
            text = f"the certificate in {_name(cert)} is damaged: OpenSSL can't read it"
        else:
            text = f"the private key in {_name(where)} is damaged: OpenSSL can't read it"
        raise StartError(text) from None
    except OSError as error:  # it was there a moment ago
        raise _unreadable(where, "key", error) from None


_TOO_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


def _load_ca(context: ssl.SSLContext, ca: File) -> None:
    """Let `context` trust the CAs in `ca`."""
    if _CERTIFICATE not in _read(ca, "CA"):
        raise StartError(f"no certificate in {_name(ca)}: a PEM file is wanted")
    try:
        damaged = _is_damaged(lambda: context.load_verify_locations(ca))
    except OSError as error:  # it was there a moment ago; or there is no descriptor left
        raise _unreadable(ca, "CA", error) from None
    if damaged:
        raise StartError(f"the CA in {_name(ca)} is damaged: OpenSSL can't read it")


def _refuse() -> str:
    raise _AskedForPassPhraseError


def _is_damaged(load: Callable[[], object]) -> bool:
    try:
        load()
    except ssl.SSLError:
        return True
    return False


def _read(file: File, what: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise _unreadable(file, what, error) from None


def _unreadable(file: File, what: str, error: OSError) -> StartError:
    return StartError(f"can't read the {what} file {_name(file)}: {error.strerror}")


def _name(file: File) -> str:
    return os.fspath(file)
