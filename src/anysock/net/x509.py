"""What we need to know of a certificate (RFC 5280), and OpenSSL does not tell: dates, and names.

A certificate is written in DER (X.690): elements within elements, each with a tag and a length.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

_EXPLICIT_0 = 0xA0
_EXPLICIT_3 = 0xA3
_UTC_TIME = 0x17
_DNS_NAME = 0x82
_OCTET_STRING = 0x04
# 2.5.29.17, subjectAltName (RFC 5280, 4.2.1.6), as an element.
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")


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


def dns_names(der: bytes) -> tuple[str, ...]:
    """The host names that a certificate is for, such as ``www.example.com`` or ``*.example.com``:
    the dNSNames among its subjectAltNames (RFC 9525, 6.3; its subject's CN does not count). Raises
    ValueError or IndexError for what is no certificate."""
    _, at, _ = _element(der, 0)  # Certificate
    _, at, end = _element(der, at)  # TBSCertificate
    found: list[str] = []
    for tag, start, stop in _elements(der, at, end):
        if tag == _EXPLICIT_3:
            _, at, end = _element(der, start)
            for _, begin, _ in _elements(der, at, end):  # each an Extension
                if der[begin:stop].startswith(_SUBJECT_ALT_NAME):
                    found += _names(der, begin + len(_SUBJECT_ALT_NAME))
    return tuple(found)


def _names(der: bytes, at: int) -> Iterator[str]:
    """The dNSNames of a subjectAltName, behind its identifier."""
    tag, start, stop = _element(der, at)
    if tag != _OCTET_STRING:  # whether it is critical
        _, start, _ = _element(der, stop)
    _, at, end = _element(der, start)  # GeneralNames
    for tag, start, stop in _elements(der, at, end):
        if tag == _DNS_NAME:
            yield der[start:stop].decode("ascii")


def _elements(der: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each element from `at` to `end`, as `_element` has it."""
    while at < end:
        tag, start, at = _element(der, at)
        yield tag, start, at


def _time(der: bytes, at: int) -> dt.datetime:
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return dt.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=dt.UTC)
