"""Certificates and keys: from files to what TLS needs of them, with a clear word on each fault."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from anysock.errors import StartError

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


@dataclass
class Certificates:
    """The certificates of a server that goes on while they are renewed.

    `context` is what a new connection takes; `reload` replaces it when the files have changed.
    The fields are the arguments of `server_context`, which says what is raised.
    """

    cert: File
    key: File | None = None
    client_ca: File | None = None
    context: ssl.SSLContext = field(init=False, repr=False)
    #: What is wrong with the dates of `cert`; see `doubts_about`.
    doubts: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.context = server_context(self.cert, self.key, self.client_ca)
        self.doubts = doubts_about(self.cert)

    def reload(self) -> None:
        """Read the files again. Connections that there are keep what they have agreed on.

        Raises `StartError` when something is wrong with them; then all stays as it was.
        """
        self.context = server_context(self.cert, self.key, self.client_ca)
        self.doubts = doubts_about(self.cert)


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


def validity(der: bytes) -> tuple[dt.datetime, dt.datetime]:
    """From when until when a certificate is valid (RFC 5280, 4.1). Raises ValueError or IndexError
    for what is none."""
    _, at, _ = _element(der, 0)  # Certificate
    _, at, _ = _element(der, at)  # TBSCertificate
    tag, _, _ = _element(der, at)
    # An explicit version, [0], may stand before the serial number; then signature and issuer.
    for _ in range(3 + (tag == _EXPLICIT_0)):
        _, _, at = _element(der, at)
    _, first, _ = _element(der, at)
    _, _, second = _element(der, first)
    return _time(der, first), _time(der, second)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """The tag of what begins `at`, and where its content begins and ends (X.690, 8.1)."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        more = length & 0x7F
        length, start = int.from_bytes(der[start : start + more], "big"), start + more
    if start + length > len(der):
        raise ValueError("it ends too early")
    return der[at], start, start + length


def _time(der: bytes, at: int) -> dt.datetime:
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)


_PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_EXPLICIT_0 = 0xA0
_UTC_TIME = 0x17


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
