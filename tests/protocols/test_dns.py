"""The example of DNS, with dig, by TCP and by TLS, and with queries that dig never makes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.harness import CONCURRENT_ENGINES, exchange, receive_all, receive_exactly
from tests.protocols.conftest import load, run_client

A, NS, SOA, TXT, AAAA, OPT, AXFR, ANY = 1, 2, 6, 16, 28, 41, 252, 255
NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 3, 4, 5


# For what is in the program alone, and is the same under every engine.
on_one_engine = pytest.mark.parametrize("server", ["selector"], indirect=True)


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def server(request, serving, pki):
    options = ("--tls-cert", str(pki.server.both))
    binds = ("127.0.0.1:0", "tls://127.0.0.1:0")
    with serving("dns.py", request.param, *options, bind=binds) as server:
        server.base_threads += request.param == "threads"  # which accepts at each address
        yield server
        # The drain ends a connection at rest.
        with server.connect() as client:
            client.sendall(framed(query("www.example.org", A)))
            receive_exactly(client, 2)
            server.signal()
            assert receive_all(client)
        assert server.wait() == 0


def name(text: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in text.split(".")) + b"\0"


def query(
    asked: str, kind: int, number: int = 7, *, flags: int = 0x100, more: bytes = b""
) -> bytes:
    """A query as RFC 1035, 4.1 has it; `more` are additional records."""
    head = struct.pack("!6H", number, flags, 1, 0, 0, 1 if more else 0)
    return head + name(asked) + struct.pack("!2H", kind, 1) + more


def opt(version: int = 0, flags: int = 0) -> bytes:
    return struct.pack("!B2H2B2H", 0, OPT, 1232, 0, version, flags, 0)


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(each)) + each for each in messages)


def unframed(data: bytes) -> list[bytes]:
    messages, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2])
        messages.append(data[at + 2 : end])
        at = end
    return messages


def code_of(answer: bytes) -> int:
    return answer[3] & 15


def dig(server, *words: str) -> str:
    where = ("@127.0.0.1", "-p", str(server.port), "+tries=1", "+time=10", "+norec")
    return run_client("dig", "+tcp", *where, *words)


def test_dig(server):
    """Several queries by one connection."""
    asked = ["www.example.org", "A", "web.example.org", "AAAA", "_dns._tcp.example.org", "TXT"]
    asked += ["example.org", "NS", "example.org", "SOA"]
    told = dig(server, "+keepopen", "+noall", "+answer", *asked).splitlines()
    assert [line.split(None, 2)[2].split(None, 2)[1:] for line in told] == [
        ["A", "192.0.2.80"],
        ["CNAME", "www.example.org."],
        ["AAAA", "2001:db8::80"],
        ["TXT", '"over TCP" "and TLS"'],
        ["NS", "ns1.example.org."],
        ["NS", "ns2.example.org."],
        ["SOA", "ns1.example.org. hostmaster.example.org. 1 7200 900 1209600 300"],
    ]


@on_one_engine
@pytest.mark.parametrize(
    ("asked", "status", "flags", "authority"),
    [
        pytest.param(("nowhere.example.org",), "NXDOMAIN", "qr aa", 1, id="no-such-name"),
        pytest.param(("www.example.org", "TXT"), "NOERROR", "qr aa", 1, id="no-such-data"),
        pytest.param(("_tcp.example.org",), "NOERROR", "qr aa", 1, id="only-names-below-it"),
        pytest.param(("example.com",), "REFUSED", "qr", 0, id="not-ours"),
        pytest.param(("-c", "CH", "example.org", "TXT"), "REFUSED", "qr", 0, id="class"),
        pytest.param(
            ("+opcode=4", "+noedns", "example.org"), "NOTIMP", "qr", 0, id="not-implemented"
        ),
        pytest.param(
            ("+edns=1", "+noednsnegotiation", "example.org"), "BADVERS", "qr", 0, id="edns-1"
        ),
    ],
)
def test_dig_is_told_why_there_is_no_answer(server, asked, status, flags, authority):
    told = dig(server, "+noall", "+comments", *asked)
    assert f"status: {status}," in told
    assert f"flags: {flags};" in told
    assert f"ANSWER: 0, AUTHORITY: {authority}," in told


@on_one_engine
def test_dig_gets_its_edns_back(server):
    told = dig(server, "+dnssec", "wWw.Example.org")
    assert "; EDNS: version: 0, flags: do; udp: 65535" in told
    assert ";wWw.Example.org." in told  # as it was asked


@on_one_engine
def test_dig_does_not_get_the_whole_zone(server):
    assert "Transfer failed." in dig(server, "example.org", "AXFR")


def test_dig_by_tls(server, pki):
    port = server.addresses[1].rpartition(":")[2]
    told = run_client(
        *("dig", "+tls", f"+tls-ca={pki.ca}", "+tls-hostname=localhost", "+short", "+keepopen"),
        *("@127.0.0.1", "-p", port, "www.example.org", "A", "www.example.org", "AAAA"),
    )
    assert told.split() == ["192.0.2.80", "2001:db8::80"]


def test_pipelined_queries_have_their_answers_in_one_send(server):
    asked = [query("www.example.org", kind, number) for number, kind in enumerate([A, AAAA, TXT])]
    with server.connect() as client:
        client.sendall(framed(*asked))
        first = client.recv(65536)
        answers = unframed(first)
        assert [int.from_bytes(each[:2]) for each in answers] == [0, 1, 2]
        # And with what is cut anywhere.
        data = framed(*asked)
        client.sendall(data[:50])
        received = receive_exactly(client, 2)
        client.sendall(data[50:])
        received += receive_exactly(client, len(first) - 2)
        assert received == first


def test_many_queries_of_a_client_that_does_not_read_meanwhile(server):
    asked = [query("example.org", SOA, number) for number in range(5000)]
    with server.connect() as client:
        answers = unframed(exchange(client, framed(*asked)))
    assert [int.from_bytes(each[:2]) for each in answers] == list(range(5000))
    assert {each[2:] for each in answers} == {answers[0][2:]}


@on_one_engine
def test_a_client_that_does_not_read_its_answers_is_not_read_from(server):
    asked = framed(*[query("example.org", SOA)] * 2000)
    with server.connect() as client:
        client.settimeout(0.5)
        before, sent = server.memory(), 0
        with pytest.raises(TimeoutError):
            while sent < 100_000_000:
                sent += client.send(asked)
        assert server.memory() - before < 4_000_000


@on_one_engine
def test_what_is_broken(server):
    good = query("www.example.org", A)
    broken = [
        good[:12],  # no question in it
        good[:-1],
        good + b"\0",
        good[:4] + b"\0\2" + good[6:],  # two questions
        good[:12] + b"\xc0\x0c" + good[-4:],  # its name points at itself
        good[:12] + b"\x40" + b"x" * 64 + b"\0" + good[-4:],
        query("a" * 62 + ("." + "a" * 62) * 4, A),
        query("www.example.org", A, more=opt() + b"\0"),
        query("www.example.org", A, more=opt()[:-1]),
        query("www.example.org", A, more=name("x") + opt()[1:]),
    ]
    with server.connect() as client:
        answers = unframed(exchange(client, framed(*broken, good)))
    assert [code_of(each) for each in answers] == [FORMERR] * len(broken) + [NOERROR]
    assert all(each[:2] == good[:2] for each in answers)


@on_one_engine
@pytest.mark.parametrize("last", [b"", b"\0" * 11, query("example.org", SOA, flags=0x8000)])
def test_what_can_not_be_answered_ends_the_connection_after_the_answers(server, last):
    with server.connect() as client:
        client.sendall(framed(query("www.example.org", A), last))
        assert [code_of(each) for each in unframed(receive_all(client))] == [NOERROR]


# -- without a server ----------------------------------------------------------------------------


DNS = load("dns.py")
ZONE = DNS.Zone(DNS.ZONE)


@given(message=st.binary(min_size=12, max_size=80).filter(lambda each: not each[2] & 0x80))
@example(message=query("www.example.org", ANY, more=opt()))
def test_whatever_comes_has_an_answer_that_says_so(message):
    answer = DNS.respond(ZONE, message)
    assert answer[:2] == message[:2]
    assert answer[2] & 0x80
    assert code_of(answer) in (NOERROR, FORMERR, NXDOMAIN, NOTIMP, REFUSED)


@given(
    asked=st.sampled_from(["www.example.org", "web.example.org", "example.org", "no.example.org"]),
    kind=st.sampled_from([A, NS, SOA, TXT, AAAA, ANY, AXFR]),
    cut=st.integers(0, 200),
    flip=st.integers(0, 200),
    byte=st.integers(0, 255),
)
def test_a_query_with_a_fault_in_it(asked, kind, cut, flip, byte):
    message = bytearray(query(asked, kind, more=opt()))
    message[flip % len(message)] = byte
    message = message[: max(12, cut)]
    if not message[2] & 0x80:
        assert DNS.respond(ZONE, bytes(message))[:2] == message[:2]


def test_aliases_that_go_round_in_circles():
    circle = DNS.Zone(
        DNS.ZONE + "a.example.org. CNAME b.example.org.\nb.example.org. CNAME a.example.org."
    )
    code, answers, _ = circle.look_up(DNS.name_of("a.example.org"), A)
    assert code == NOERROR
    assert len(answers) == 8
