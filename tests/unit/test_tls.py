"""TLS without a network: what one end has to say is handed to the other, however it is cut."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anysock.errors import TlsError, TlsTruncated, UsageError
from anysock.net.certificates import client_context, server_context
from anysock.net.tls_session import RECORD, RECORDS_IN_A_ROW, TlsSession
from tests.pki import TLS12, TLS13, Pki

VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=["TLS 1.2", "TLS 1.3"])
ENOUGH = 10**9


class Ends:
    """Contexts of a server and a client, and sessions of both."""

    def __init__(self, pki: Pki, version: ssl.TLSVersion = TLS13, **client: Any) -> None:
        self.server_context = server_context(pki.server.cert, pki.server.key)
        self.client_context = client_context(pki.ca, **client)
        self.server_context.maximum_version = version

    def new(self, hostname: str = "localhost") -> tuple[TlsSession, TlsSession]:
        return (
            TlsSession(self.server_context, server_side=True),
            TlsSession(self.client_context, server_side=False, hostname=hostname),
        )

    def agreed(self) -> tuple[TlsSession, TlsSession]:
        server, client = self.new()
        shake_hands(server, client)
        return server, client


@pytest.fixture(scope="module")
def ends_of(pki) -> Callable[..., Ends]:
    made: dict[ssl.TLSVersion, Ends] = {}
    return lambda version: made.setdefault(version, Ends(pki, version))


def carry(sender: TlsSession, receiver: TlsSession) -> None:
    receiver.feed(sender.take_output())


def shake_hands(server: TlsSession, client: TlsSession) -> None:
    for _ in range(5):
        client.handshake()
        carry(client, server)
        server.handshake()
        carry(server, client)
    assert server.established
    assert client.established


def send(session: TlsSession, data: bytes) -> bytes:
    """`data` as it goes over the network."""
    starts = range(0, len(data), RECORD)
    return b"".join([session.encrypt(data[start : start + RECORD]) for start in starts])


def receive(session: TlsSession, most: int = ENOUGH) -> bytes:
    """All plain text that is there."""
    received = b""
    while data := session.decrypt(most):
        assert len(data) <= most
        received += data
    return received


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """`data` cut into pieces of these sizes, over and over."""
    cut: list[bytes] = []
    while data:
        size = sizes[len(cut) % len(sizes)]
        cut.append(data[:size])
        data = data[size:]
    return cut


@VERSIONS
def test_both_ways(ends_of, version):
    server, client = ends_of(version).agreed()
    assert server.version == client.version == version.name.replace("_", ".")
    assert server.cipher == client.cipher
    server.feed(client.encrypt(b"ping"))
    assert not client.output_pending
    assert server.decrypt(ENOUGH) == b"ping"
    assert server.decrypt(ENOUGH) is None
    client.feed(server.encrypt(b"pong"))
    assert client.decrypt(1) == b"p"
    assert client.decrypt(ENOUGH) == b"ong"
    assert client.decrypt(ENOUGH) is None


def hello_of(size: int, cut: int) -> bytes:
    """A ClientHello of `size` bytes, of which nothing but the head makes sense, in records of `cut`
    bytes."""
    message = b"\x01" + size.to_bytes(3, "big") + bytes(size)
    records = [message[at : at + cut] for at in range(0, len(message), cut)]
    return b"".join(b"\x16\x03\x01" + len(each).to_bytes(2, "big") + each for each in records)


@pytest.mark.parametrize("cut", [1, 3, 1000, 16384])
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_a_client_hello_of_more_than_16_kib_is_refused_before_it_has_come(ends_of, cut, piece):
    server, _ = ends_of(TLS13).new()
    hello, fed = hello_of(16385, cut), 0
    with pytest.raises(TlsError, match="a ClientHello of 16385 bytes: the most is 16384"):
        while fed < 100:
            server.feed(hello[fed : fed + piece])
            fed += piece
            while not server.handshake() and server.behind:
                pass
    server, _ = ends_of(TLS13).new()
    for each in pieces(hello_of(16384, cut)[:200], [piece]):
        server.feed(each)
        with contextlib.suppress(TlsError):
            while not server.handshake() and server.behind:
                pass
        assert "the most" not in str(server._failure)


@pytest.mark.parametrize("change", [b"", b"\x14\x03\x03\x00\x01\x01"])
def test_so_is_a_second_one(pki, change):
    ends = Ends(pki)
    ends.server_context.set_ecdh_curve("secp384r1")  # not what the client would rather have
    server, client = ends.new()
    client.handshake()
    carry(client, server)
    server.handshake()
    server.take_output()
    server.feed(change + hello_of(16385, 16384)[:20])
    with pytest.raises(TlsError, match="a ClientHello of 16385 bytes: the most is 16384"):
        server.handshake()
    shake_hands(*ends.new())


@VERSIONS
def test_no_call_does_more_than_so_many_records(ends_of, version):
    server, client = ends_of(version).new()
    client.handshake()
    hello = client.take_output()
    # A message may be cut into as many records as it has bytes (RFC 8446, 5.1).
    server.feed(b"".join(hello[:3] + b"\0\1" + hello[at : at + 1] for at in range(5, len(hello))))
    calls = 0
    while server.behind:
        opened = server.opened
        assert not server.handshake()
        assert 0 < server.opened - opened <= RECORDS_IN_A_ROW
        calls += 1
    assert calls >= (len(hello) - 5) // RECORDS_IN_A_ROW
    carry(server, client)
    shake_hands(server, client)

    server.feed(b"".join(send(client, b"x") for _ in range(1000)))
    received = 0
    while server.behind:
        data = server.decrypt(ENOUGH)
        assert data is not None
        assert len(data) <= RECORDS_IN_A_ROW
        received += len(data)
    assert received == 1000


@VERSIONS
@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 40_000), min_size=1, max_size=5),
    cuts=st.lists(st.integers(1, 60_000), min_size=1, max_size=5),
    most=st.integers(1, 100_000),
    total=st.integers(1, 100_000),
)
def test_however_it_is_cut_the_same_comes_out(ends_of, version, sizes, cuts, most, total):
    server, client = ends_of(version).agreed()
    plain = bytes(range(256)) * (total // 256 + 1)
    most = max(most, total // 200)
    # Not too many.
    sizes = [max(size, total // 50) for size in sizes]
    cuts = [max(cut, total // 50) for cut in cuts]
    sent = b"".join(send(client, piece) for piece in pieces(plain, sizes))
    received = b""
    for piece in pieces(sent, cuts):
        server.feed(piece)
        received += receive(server, most)
    assert received == plain


@VERSIONS
def test_a_handshake_may_come_byte_by_byte(ends_of, version):
    server, client = ends_of(version).new()
    for _ in range(3):
        client.handshake()
        for byte in client.take_output():
            server.feed(bytes([byte]))
            server.handshake()
        for byte in server.take_output():
            client.feed(bytes([byte]))
            client.handshake()
    assert server.established
    assert client.established


def handshake_of(ends: Ends) -> tuple[list[bytes], list[bytes]]:
    """What a client and a server say to each other, in turns, and a word of each at the end."""
    server, client = ends.new()
    by_client, by_server = [], []
    for _ in range(3):
        client.handshake()
        by_client.append(client.take_output())
        server.feed(by_client[-1])
        server.handshake()
        by_server.append(server.take_output())
        client.feed(by_server[-1])
    return by_client, by_server


def outcome(session: TlsSession, comes: bytes) -> str:
    """Feed it `comes`, and then nothing more; the error that it ends with."""
    with pytest.raises(TlsError) as caught:
        session.feed(comes)
        session.handshake()
        session.end_input()
        session.handshake()
        # It was a whole handshake.
        while session.decrypt(ENOUGH):
            pass
    assert str(caught.value)
    with pytest.raises(TlsError) as again:
        session.handshake()
        session.decrypt(ENOUGH)
    assert again.value is caught.value, "what has failed stays so"
    return str(caught.value)


@VERSIONS
@settings(max_examples=40)
@given(data=st.data())
def test_a_handshake_that_is_cut_off_anywhere_is_one_error(ends_of, version, data):
    ends = ends_of(version)
    by_client, by_server = handshake_of(ends)
    server, client = ends.new()
    cut = data.draw(st.integers(0, 700))
    told = outcome(server, by_client[0][:cut])
    assert told == (
        "the client left in the middle of the TLS handshake"
        if cut
        else "the client left before the TLS handshake"
    )
    client.handshake()
    # It is another handshake than the one that is cut: the server's words do not fit, and where
    # they are cut before that can be known, they are cut off.
    cut = data.draw(st.integers(1, 1200))
    told = outcome(client, by_server[0][:cut])
    assert "left in the middle" in told or "what came was changed" in told or "TLS has" in told


@settings(max_examples=300)
@given(
    comes=st.binary(max_size=300), beginning=st.sampled_from([b"", b"\x16\x03\x01", b"\x15\x03"])
)
def test_random_bytes_instead_of_a_handshake_are_one_error(ends_of, comes, beginning):
    server, client = ends_of(TLS13).new()
    outcome(server, beginning + comes)
    client.handshake()
    outcome(client, beginning + comes)


@VERSIONS
@settings(max_examples=100)
@given(data=st.data())
def test_a_handshake_with_changed_bytes_is_one_error_or_none(ends_of, version, data):
    ends = ends_of(version)
    server, client = ends.new()
    client.handshake()
    hello = bytearray(client.take_output())
    for _ in range(data.draw(st.integers(1, 4))):
        hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
    outcome(server, bytes(hello))


@VERSIONS
@settings(max_examples=40)
@given(data=st.data())
def test_a_changed_byte_is_found_and_nothing_after_it_is_believed(ends_of, version, data):
    server, client = ends_of(version).agreed()
    before, sent = send(client, b"before"), bytearray(send(client, b"the message"))
    at = data.draw(st.integers(5, len(sent) - 1))  # in the record: its head says how long it is
    sent[at] ^= data.draw(st.integers(1, 255))
    server.feed(before + bytes(sent) + send(client, b"after"))
    assert server.decrypt(ENOUGH) == b"before"
    with pytest.raises(TlsError, match="changed on its way"):
        server.decrypt(ENOUGH)
    alert = server.take_output()
    client.feed(alert)
    with pytest.raises(TlsError, match="the server refuses: bad record mac"):
        client.decrypt(ENOUGH)
    with pytest.raises(TlsError, match="changed on its way"):
        server.encrypt(b"x")


# -- the end of a stream ---------------------------------------------------------------------------


@VERSIONS
def test_a_half_close_ends_one_direction_only(ends_of, version):
    server, client = ends_of(version).agreed()
    server.feed(client.encrypt(b"the last word"))
    client.shut_down()
    carry(client, server)
    assert server.decrypt(ENOUGH) == b"the last word"
    assert server.decrypt(ENOUGH) == b""
    assert server.decrypt(ENOUGH) == b"", "the end of a stream stays"
    for _ in range(3):
        assert client.decrypt(ENOUGH) is None
        client.feed(server.encrypt(b"an answer"))
        assert client.decrypt(ENOUGH) == b"an answer"
    server.shut_down()
    carry(server, client)
    assert client.decrypt(ENOUGH) == b""
    assert client.decrypt(ENOUGH) == b""
    client.end_input()
    assert client.decrypt(ENOUGH) == b"", "nothing was cut off"
    with pytest.raises(TlsError):
        client.encrypt(b"x")


@VERSIONS
@settings(max_examples=40)
@given(data=st.data())
def test_a_half_close_while_the_peer_speaks_loses_nothing(ends_of, version, data):
    """Data may be there decrypted, in part decrypted, undecrypted, or half of a record."""
    server, client = ends_of(version).agreed()
    plain = bytes(range(256)) * 200
    sent = send(server, plain)
    cut = data.draw(st.integers(0, len(sent)))
    client.feed(sent[:cut])
    received = client.decrypt(data.draw(st.integers(1, 60_000))) or b""
    client.shut_down()
    client.feed(sent[cut:])
    received += receive(client)
    assert received == plain
    carry(client, server)
    assert server.decrypt(ENOUGH) == b""


@VERSIONS
@pytest.mark.parametrize("taken", [0, 1, 5, 7])
def test_a_half_close_with_small_records_waiting_loses_nothing(ends_of, version, taken):
    server, client = ends_of(version).agreed()
    client.feed(send(server, b"first") + send(server, b"second") + send(server, b"third"))
    received = client.decrypt(taken) or b"" if taken else b""
    client.shut_down()
    assert received + receive(client) == b"firstsecondthird"


@VERSIONS
def test_a_half_close_before_the_session_tickets_are_read(ends_of, version):
    server, client = ends_of(version).new()
    client.handshake()
    carry(client, server)
    server.handshake()
    carry(server, client)
    client.handshake()
    carry(client, server)
    server.handshake()
    client.handshake()
    client.feed(server.take_output())
    client.handshake()
    server.feed(client.encrypt(b"question"))
    client.shut_down()
    carry(client, server)
    assert receive(server) == b"question"
    client.feed(server.encrypt(b"answer"))
    server.shut_down()
    carry(server, client)
    assert receive(client) == b"answer"


@VERSIONS
def test_both_may_end_at_once(ends_of, version):
    server, client = ends_of(version).agreed()
    server.shut_down()
    client.shut_down()
    carry(server, client)
    carry(client, server)
    assert client.decrypt(ENOUGH) == server.decrypt(ENOUGH) == b""


@VERSIONS
@pytest.mark.parametrize("half", [0, 10], ids=["between records", "within one"])
def test_an_end_of_tcp_alone_is_no_end(ends_of, version, half):
    server, client = ends_of(version).agreed()
    server.feed(send(client, b"all is w") + send(client, b"ell")[:half])
    server.end_input()
    assert server.decrypt(ENOUGH) == b"all is w", "what has come before is good"
    for _ in range(2):
        with pytest.raises(TlsTruncated, match="the client ended the connection without TLS's own"):
            server.decrypt(ENOUGH)


def test_bytes_after_the_end_are_not_looked_at(ends_of):
    server, client = ends_of(TLS13).agreed()
    client.shut_down()
    server.feed(client.take_output() + b"no TLS at all")
    assert server.decrypt(ENOUGH) == b""
    server.feed(b"still none")
    assert server.decrypt(ENOUGH) == b""


# -- how a handshake fails -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", r"plain text on a TLS port: b'GET / HTTP/1.1\r\n\r\n'"),
        (b"hello\n" * 100, r"plain text on a TLS port: b'hello\nhello\nhello\nhe'"),
        (b"h", r"plain text on a TLS port: b'h'"),
        (b"\x00\x01\x02", r"something that is no TLS on a TLS port: b'\x00\x01\x02'"),
        (b"\x80\x2e\x01\x03", r"something that is no TLS on a TLS port: b'\x80.\x01\x03'"),
        (b"\x16GET / HTTP/1.1", "what the client sends is no TLS"),
    ],
)
def test_what_is_no_tls_is_recognised(ends_of, said, told):
    server, _ = ends_of(TLS13).new()
    assert outcome(server, said) == told


def test_a_server_without_tls_is_recognised(ends_of):
    _, client = ends_of(TLS13).new()
    client.handshake()
    assert outcome(client, b"220 ready\r\n") == (
        r"the server does not speak TLS: it said b'220 ready\r\n'"
    )
    _, client = ends_of(TLS13).new()
    client.handshake()
    assert outcome(client, client.take_output()) == (
        "the server sends back what it gets: it does not speak TLS"
    )


def failures(server: TlsSession, client: TlsSession) -> list[str]:
    """What each end says of a handshake that fails, in the order in which they notice."""
    told: list[str] = []
    for _ in range(4):
        for session, other in ((client, server), (server, client)):
            try:
                session.handshake()
                session.decrypt(1)
            except TlsError as error:
                if str(error) not in told:
                    told.append(str(error))
            other.feed(session.take_output())
    return told


UNTRUSTED = "can't trust the server's certificate: "
ITS_OWN_AFFAIR = "the client does not trust our certificate"


def test_a_ca_that_the_client_does_not_know(pki):
    ends = Ends(pki)
    ends.client_context = client_context(pki.strange_ca)
    assert failures(*ends.new()) == [
        UNTRUSTED + "unable to get local issuer certificate",
        ITS_OWN_AFFAIR + ": it does not know its CA",
    ]


def test_another_host_than_the_certificate_is_for(pki):
    told = failures(*Ends(pki).new("elsewhere.example"))
    assert told == [
        UNTRUSTED + "Hostname mismatch, certificate is not valid for 'elsewhere.example'",
        ITS_OWN_AFFAIR,
    ]


def test_an_insecure_client_does_not_mind(pki):
    shake_hands(*Ends(pki, insecure=True).new("elsewhere.example"))
    ends = Ends(pki)
    ends.client_context = client_context(insecure=True)
    shake_hands(*ends.new("elsewhere.example"))


def mutual(pki: Pki, version: ssl.TLSVersion, **client: Any) -> Ends:
    ends = Ends(pki, version, **client)
    ends.server_context = server_context(pki.server.cert, pki.server.key, pki.ca)
    ends.server_context.maximum_version = version
    return ends


@VERSIONS
def test_a_client_must_have_a_certificate_where_that_is_asked_for(pki, version):
    told = failures(*mutual(pki, version).new())
    assert told[0] == "the client sent no certificate"
    assert told[1] == (
        "the server wants a certificate, and got none"
        if version is TLS13
        else "the server refuses: handshake failure (no certificate? no cipher in common?)"
    )


@VERSIONS
def test_a_client_with_a_certificate_of_another_ca(pki, version):
    strange = pki.strange_client
    told = failures(*mutual(pki, version, cert=strange.cert, key=strange.key).new())
    assert told[0] == (
        "can't trust the client's certificate: unable to get local issuer certificate"
    )
    assert "the server does not trust our certificate: it does not know its CA" in told[1]


@VERSIONS
def test_a_client_with_a_certificate_is_known_by_it(pki, version):
    server, client = mutual(pki, version, cert=pki.client.both).agreed()
    certificate = server.peer_certificate
    assert certificate is not None
    assert ("email", "somebody@example.org") in certificate["subjectAltName"]
    client_sees = client.peer_certificate
    assert client_sees is not None
    assert ("DNS", "localhost") in client_sees["subjectAltName"]
    again = mutual(pki, version, cert=pki.client.both)
    assert again.new()[0].peer_certificate is None, "not before the handshake"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_a_version_that_is_too_old(pki):
    ends = Ends(pki)
    old = ends.client_context
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    assert failures(*ends.new()) == [
        "the client speaks only versions of TLS that are too old",
        "the server wants another version of TLS",
    ]


def test_no_cipher_in_common(pki):
    ends = Ends(pki, TLS12)
    ends.server_context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    ends.client_context.maximum_version = TLS12
    ends.client_context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    told = failures(*ends.new())
    assert told[0] == "no cipher in common"


@pytest.mark.parametrize("hostname", ["", ".example.org", "a" * 70 + ".example"])
def test_a_host_that_can_be_none(pki, hostname):
    with pytest.raises(UsageError, match="TLS can't ask for a host"):
        Ends(pki).new(hostname)


def test_a_session_can_be_resumed_where_clients_show_certificates(pki):
    """OpenSSL refuses that, with an error of its own, where a server has not set up a context."""
    for version in (TLS12, TLS13):
        ends = mutual(pki, version, cert=pki.client.both)
        server, client = ends.agreed()
        client.decrypt(1)
        session = client._tls.session
        server, client = ends.new()
        client._tls.session = session
        shake_hands(server, client)
        assert client._tls.session_reused
