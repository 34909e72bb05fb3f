"""A DNS server for one zone, over TCP and TLS (RFC 1035, 7766, 7858, with EDNS: 6891).

    python dns.py -b 127.0.0.1:5353
    dig +tcp @127.0.0.1 -p 5353 www.example.org
    python dns.py -b tls://127.0.0.1:8853 --tls-cert cert.pem --tls-key key.pem
    dig +tls @127.0.0.1 -p 8853 www.example.org

Queries may be pipelined: those that have come together are answered with one send. No answer has to
wait for anything, so they come in the order of the queries; RFC 7766 allows any order. There is no
UDP, for which Anysock has no handlers.
"""

import argparse
import functools
import ipaddress
import struct
from typing import NamedTuple

import anysock

ZONE = """
example.org.           SOA    ns1.example.org. hostmaster.example.org. 1 7200 900 1209600 300
example.org.           NS     ns1.example.org.
example.org.           NS     ns2.example.org.
example.org.           TXT    "v=spf1 -all"
ns1.example.org.       A      192.0.2.1
ns2.example.org.       AAAA   2001:db8::2
www.example.org.       A      192.0.2.80
www.example.org.       AAAA   2001:db8::80
web.example.org.       CNAME  www.example.org.
_dns._tcp.example.org. TXT    "over TCP" "and TLS"
"""
TTL = 3600  # seconds
IDLE_SECONDS = 20  # RFC 7766, 6.2.3: a few

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "TXT": 16, "AAAA": 28}
CNAME, SOA, OPT, TRANSFERS, ANY = 5, 6, 41, range(128, 255), 255
NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 3, 4, 5, 16
IN, DNSSEC_OK = 1, 0x8000
IS_ANSWER, OPCODE, AUTHORITATIVE, RECURSION_DESIRED = 0x8000, 0x7800, 0x0400, 0x0100

Name = tuple[bytes, ...]  # its labels, in lower case: RFC 4343


class Record(NamedTuple):
    owner: Name
    kind: int
    data: bytes


def name_of(text: str) -> Name:
    return tuple(label.encode() for label in text.lower().rstrip(".").split("."))


def wire(name: Name) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in name) + b"\0"


def read_name(message: bytes, start: int) -> tuple[Name, int]:
    """The name that begins at `start`, and where it ends. None is compressed: what a query has
    before its name is no name to point at. Raises ValueError or IndexError."""
    labels: list[bytes] = []
    at = start
    while length := message[at]:
        if length > 63 or at + length - start > 253:
            raise ValueError("a label or a name is too long")
        labels.append(message[at + 1 : at + 1 + length].lower())
        at += 1 + length
    return tuple(labels), at + 1


class Zone:
    """The records of a zone. The first is its SOA, whose owner is the name of the zone."""

    def __init__(self, text: str) -> None:
        self.records: dict[Name, dict[int, list[Record]]] = {}
        for line in filter(None, map(str.strip, text.splitlines())):
            owner, kind, data = line.split(None, 2)
            record = Record(name_of(owner), TYPES[kind], self._data(kind, data))
            self.records.setdefault(record.owner, {}).setdefault(record.kind, []).append(record)
        self.apex = next(iter(self.records))
        #: What there is, be it only on the way to a longer name (RFC 8020).
        self.names = {name[i:] for name in self.records for i in range(len(name))}

    @staticmethod
    def _data(kind: str, text: str) -> bytes:
        """The data of a record in the format of RFC 1035, 3.3."""
        match kind:
            case "A" | "AAAA":
                return ipaddress.ip_address(text).packed
            case "NS" | "CNAME":
                return wire(name_of(text))
            case "TXT":
                strings = [string.encode() for string in text.split('"')[1::2]]
                return b"".join(bytes([len(string)]) + string for string in strings)
        server, person, *numbers = text.split()
        names = wire(name_of(server)) + wire(name_of(person))
        return names + struct.pack("!5I", *map(int, numbers))

    def holds(self, name: Name) -> bool:
        return name[-len(self.apex) :] == self.apex

    def look_up(self, name: Name, kind: int) -> tuple[int, list[Record], list[Record]]:
        """The code, the answers, and the authority (RFC 1034, 4.3.2; RFC 2308)."""
        answers: list[Record] = []
        while self.holds(name) and len(answers) < 8:  # aliases may go round in circles
            here = self.records.get(name, {})
            wanted = next(iter(here), ANY) if kind == ANY else kind  # RFC 8482: any one will do
            if wanted in here:
                return NOERROR, answers + here[wanted], []
            if CNAME not in here:
                code = NOERROR if name in self.names else NXDOMAIN
                return code, answers, self.records[self.apex][SOA]
            answers += here[CNAME]
            name, _ = read_name(answers[-1].data, 0)
        return NOERROR, answers, []


def pack(record: Record, asked: Name) -> bytes:
    """A record; its owner is compressed where it is a part of the question (RFC 1035, 4.1.4)."""
    owner = wire(record.owner)
    if (above := len(asked) - len(record.owner)) >= 0 and asked[above:] == record.owner:
        owner = struct.pack("!H", 0xC000 + 12 + len(wire(asked[:above])) - 1)
    # RFC 2308, 5: how long it may be kept that there is nothing.
    ttl = min(TTL, *struct.unpack("!I", record.data[-4:])) if record.kind == SOA else TTL
    return owner + struct.pack("!2HIH", record.kind, IN, ttl, len(record.data)) + record.data


def respond(zone: Zone, message: bytes) -> bytes:
    """The answer to a query, whatever is in it; but it has a header, of 12 bytes."""
    ident, flags, *counts = struct.unpack_from("!6H", message)
    flags = IS_ANSWER | flags & (OPCODE | RECURSION_DESIRED)
    if flags & OPCODE:
        return struct.pack("!6H", ident, flags | NOTIMP, 0, 0, 0, 0)
    try:
        name, end = read_name(message, 12)
        kind, class_ = struct.unpack_from("!2H", message, end)
        edns = None if kind in TRANSFERS else read_edns(message, end + 4, sum(counts[1:]))
        if counts[0] != 1:
            raise ValueError("not one question")
    except (ValueError, IndexError, struct.error):
        return struct.pack("!6H", ident, flags | FORMERR, 0, 0, 0, 0)
    code, answers, authority = REFUSED, list[Record](), list[Record]()
    if edns is not None and edns[0] > 0:
        code = BADVERS
    elif class_ == IN and kind not in TRANSFERS and zone.holds(name):
        flags |= AUTHORITATIVE
        code, answers, authority = zone.look_up(name, kind)
    parts = [message[12 : end + 4]]  # the question as it came: the client's capitals come back
    parts += [pack(record, name) for record in answers + authority]
    if edns is not None:  # the upper bits of the code are here
        parts.append(struct.pack("!B2H2B2H", 0, OPT, 65_535, code >> 4, 0, edns[1] & DNSSEC_OK, 0))
    counts = [1, len(answers), len(authority), int(edns is not None)]
    return struct.pack("!6H", ident, flags | code & 15, *counts) + b"".join(parts)


def read_edns(message: bytes, at: int, records: int) -> tuple[int, int] | None:
    """Version and flags of the OPT record among those that begin at `at`, if there is one."""
    edns = None
    for _ in range(records):
        owner, at = read_name(message, at)
        kind, _, _, version, flags, length = struct.unpack_from("!2H2B2H", message, at)
        at += 10 + length
        if kind == OPT:
            if owner or edns is not None:
                raise ValueError("an OPT record is for the root, and there is one of them")
            edns = version, flags
    if at != len(message):
        raise ValueError("the message has another length than its records")
    return edns


async def dns(zone: Zone, connection: anysock.Connection) -> None:
    while messages := await connection.recv_frames(prefix=2, max_bytes=65_535):
        # What has no header can't be answered, and an answer must not be.
        queries = [each for each in messages if len(each) >= 12 and not each[2] & 0x80]
        answers = [respond(zone, query) for query in queries]
        await connection.send_all([struct.pack("!H", len(each)) + each for each in answers])
        if len(queries) < len(messages):
            return  # no resolver speaks so


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-b", "--bind", action="append", required=True)
    parser.add_argument("-e", "--engine", default="selector")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    handler = functools.partial(dns, Zone(ZONE))
    anysock.serve(handler, idle_timeout=IDLE_SECONDS, **vars(parser.parse_args()))
