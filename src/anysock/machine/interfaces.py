"""The addresses of network interfaces, by their names: netdevice(7), and proc(5) for IPv6."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import sys
from pathlib import Path

# linux/sockios.h. It answers with a struct ifreq: a name of 16 bytes, and a struct sockaddr_in.
_SIOCGIFADDR = 0x8915
_IFREQ = "16s4x4s8x"

# Its lines: address, number of the interface, length of the prefix, scope, flags, name.
_INET6 = Path("/proc/net/if_inet6")
_LINK_LOCAL = 0x20


def interface_names() -> list[str]:
    """The names of those whose addresses can be told: on Linux all, elsewhere none."""
    return [name for _, name in socket.if_nameindex()] if sys.platform == "linux" else []


def interface_addresses(name: str) -> dict[int, str]:
    """The address of the interface `name` of each family, `socket.AF_INET` and `AF_INET6`, that has
    one. Of several in IPv6, one that more than the link can reach. Linux only."""
    found: dict[int, str] = {}
    asked = struct.pack("16s16x", name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        _, octets = struct.unpack(_IFREQ, fcntl.ioctl(sock, _SIOCGIFADDR, asked))
        found[socket.AF_INET] = socket.inet_ntoa(octets)
    lines = _INET6.read_text().splitlines() if _INET6.exists() else []
    own = [fields for line in lines if (fields := line.split())[5] == name]
    if own:
        digits, _, _, scope, *_ = min(own, key=lambda fields: int(fields[3], 16) == _LINK_LOCAL)
        address = str(ipaddress.IPv6Address(bytes.fromhex(digits)))
        # An address of a link is one only together with it.
        on_link = int(scope, 16) == _LINK_LOCAL
        found[socket.AF_INET6] = f"{address}%{name}" if on_link else address
    return found
