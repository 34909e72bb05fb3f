"""Fuzzes the parser of the PROXY protocol, with atheris: coverage shows it where to go on.

    python -m tests.fuzz.fuzz_proxy_protocol -runs=1000000 [FOLDER FOR WHAT IT FINDS]

What must hold: whatever comes, in whatever pieces, is a header or `BadProxyHeader`; both ways of
cutting it say the same; nothing beyond the header is taken.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

with atheris.instrument_imports(include=["anysock.net.proxy_protocol"]):
    from anysock.net.proxy_protocol import BadProxyHeader, Header, HeaderParser

_V2 = b"\r\n\r\n\x00\r\nQUIT\n"

# What mutations would hardly find by themselves.
CORPUS = [
    b"\x10PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\nhello",
    b"\x01PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
    b"\x03PROXY UNKNOWN\r\nGET /",
    b"\xff" + _V2 + b"\x21\x11\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02hello",
    b"\x05" + _V2 + b"\x21\x21\x00\x24" + bytes(36),
    b"\x05" + _V2 + b"\x20\x00\x00\x00hello",
    b"\x05" + _V2 + b"\x21\x11\x00\x11" + bytes(12) + b"\x01\x00\x02h2",
]


def parsed(data: bytes, most: int) -> tuple[Header | None, int] | None:
    """The header, and how many bytes were taken; None when it is none."""
    parser = HeaderParser()
    taken = 0
    try:
        while taken < len(data):
            size = min(parser.wanted, most)
            assert size > 0
            header = parser.feed(data[taken : taken + size])
            taken += min(size, len(data) - taken)
            if header is not None:
                assert header.size == taken
                return header, taken
    except BadProxyHeader:
        return None
    return None, taken


def test_one_input(data: bytes) -> None:
    if data:
        assert parsed(data[1:], data[0] + 1) == parsed(data[1:], 1 << 20)


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for number, each in enumerate(CORPUS):
        test_one_input(each)
        for folder in folders:
            (folder / f"seed-{number}").write_bytes(each)
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
