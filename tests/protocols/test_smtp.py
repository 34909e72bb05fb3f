"""The example of SMTP, with smtplib and openssl, and with clients that mean it ill."""

from __future__ import annotations

import re
import smtplib
import ssl

import pytest

from tests.harness import CONCURRENT_ENGINES, PATIENCE, receive_all
from tests.protocols.conftest import run_client

TEXT = "Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nthe end\r\n"
BEGIN = b"EHLO me\r\nMAIL FROM:<anna@example.com>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
BEGUN = ["220", "250", "250", "250", "354"]

# For what is in the program alone, and is the same under every engine.
on_one_engine = pytest.mark.parametrize("server", ["selector"], indirect=True)


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def server(request, serving, pki, tmp_path_factory):
    maildir = tmp_path_factory.mktemp("mail") / "box"
    options = ("--domain", "Example.ORG", "--maildir", str(maildir))
    tls = ("--tls-cert", str(pki.server.cert), "--tls-key", str(pki.server.key))
    with serving("smtp.py", request.param, *options, *tls) as server:
        server.maildir = maildir
        server.base_threads += 40  # those that have written to the disk are kept for the next
        yield server
        # The drain ends a connection at rest, and says so.
        with server.connect() as client:
            client.sendall(b"QUEST\r\n")
            assert receive_all_of(client, "220", "500")
            server.signal()
            assert receive_all(client) == b"421 4.3.2 closing\r\n"
        assert server.wait() == 0


@pytest.fixture
def kept(server):
    """A function that tells which messages were kept since the test began."""
    folder = server.maildir / "new"
    before = set(folder.iterdir())
    return lambda: [path.read_text() for path in set(folder.iterdir()) - before]


def codes_of(answers: bytes) -> list[str]:
    """The codes of answers; of those that have several lines, once."""
    assert not answers or answers.endswith(b"\r\n")
    return re.findall(r"^(\d{3}) ", answers.decode(), re.MULTILINE)


def receive_all_of(client, *codes: str) -> bytes:
    answers = b""
    while not answers.endswith(b"\r\n") or codes_of(answers) != list(codes):
        data = client.recv(65536)
        assert data, answers
        answers += data
    return answers


def trusting(pki) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pki.ca)


def test_smtplib(server, kept):
    with smtplib.SMTP("127.0.0.1", server.port, "me", timeout=PATIENCE) as client:
        whom = ["bob@example.org", "Postmaster", "eve@example.com"]
        refused = client.sendmail("anna@example.com", whom, TEXT)
        assert refused == {"eve@example.com": (550, b"5.7.1 not served here")}
        offered = ["pipelining", "8bitmime", "starttls", "enhancedstatuscodes"]
        assert client.esmtp_features == dict.fromkeys(offered, "") | {"size": "10485760"}
    [message] = kept()
    assert re.sub(r"by .*\n.*\n", "by\n", message) == (
        "Return-Path: <anna@example.com>\nDelivered-To: bob@example.org\nDelivered-To: Postmaster\n"
        "Received: from me ([127.0.0.1]) by\n" + TEXT.replace("\r\n", "\n")
    )


def test_a_message_with_nothing_in_it(server, kept):
    answers = server.ask(BEGIN.replace(b"anna@example.com", b"") + b".\r\nQUIT\r\n")
    assert codes_of(answers) == [*BEGUN, "250", "221"]
    [message] = kept()
    assert message.startswith("Return-Path: <>\n")
    assert message.count("\n") == 4


def test_smtplib_by_tls(server, pki, kept):
    with smtplib.SMTP("localhost", server.port, timeout=PATIENCE) as client:
        client.ehlo("me")
        client.mail("eve@example.com")
        client.starttls(context=trusting(pki))
        # RFC 3207, 4.2: it has forgotten what was said in plain text.
        assert client.docmd("RCPT", "TO:<bob@example.org>")[0] == 503
        client.ehlo("me")
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 502
        client.sendmail("anna@example.com", ["bob@example.org"], TEXT)
    [message] = kept()
    assert "with ESMTPS;" in message
    assert message.startswith("Return-Path: <anna@example.com>\n")


def test_openssl(server, pki):
    told = run_client(
        *("openssl", "s_client", "-starttls", "smtp", "-connect", f"localhost:{server.port}"),
        *("-CAfile", str(pki.ca), "-verify_return_error", "-quiet", "-crlf", "-ign_eof"),
        say=b"NOOP\nQUIT\n",
    )
    assert "250 2.0.0 here" in told
    assert "221 2.0.0 good bye" in told


def test_pipelined_commands_have_their_answers_in_one_send(server):
    batch = b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nRCPT TO:<b@x.org>\r\nRSET\r\n"
    with server.connect() as client:
        receive_all_of(client, "220")
        client.sendall(batch)
        assert codes_of(client.recv(65536)) == ["250", "250", "250", "550", "250"]
        client.sendall(b"NOOP\r\nNO")
        receive_all_of(client, "250")  # it is not kept back for the other half
        client.sendall(b"OP\r\nQUIT\r\nNOOP\r\n")  # behind QUIT nothing is answered
        assert codes_of(receive_all(client)) == ["250", "221"]


def test_a_command_that_was_put_behind_starttls_is_not_taken_for_the_clients(server, pki, kept):
    """CVE-2011-0411. It is refused before TLS begins."""
    server.expected_errors.append("came in plain text")
    with server.connect() as client:
        client.sendall(b"EHLO me\r\nSTARTTLS\r\n" + BEGIN + b"forged\r\n.\r\n")
        receive_all_of(client, "220", "250", "220")
        with pytest.raises((ssl.SSLError, OSError)):
            trusting(pki).wrap_socket(client, server_hostname="localhost")
    server.wait_for("came in plain text")
    assert not kept()


def test_a_message_with_a_forged_end_is_not_kept(server, kept):
    """CVE-2023-51764: nothing but CRLF . CRLF is the end, and what looks like it is refused."""
    for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n"):
        forged = b"MAIL FROM:<boss@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nforged"
        answers = server.ask(BEGIN + b"one" + end + forged + b"\r\n.\r\nQUIT\r\n")
        assert codes_of(answers) == [*BEGUN, "554", "221"], end
    assert not kept()


@on_one_engine
@pytest.mark.parametrize(
    ("said", "codes"),
    [
        (b"MAIL FROM:<a@b.c>\r\n", ["503"]),
        (b"HELO\r\nEHLO a b\r\nEHLO [::1]\r\nHELO x\r\n", ["501", "501", "250", "250"]),
        (b"EHLO x\r\nMAIL FROM:a@b.c\r\nMAIL TO:<a@b.c>\r\nMAIL\r\n", ["250"] + ["501"] * 3),
        (b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nMAIL FROM:<a@b.c>\r\n", ["250", "250", "503"]),
        (b'EHLO x\r\nmail from:<@a,@b:"a \\" b"@c> size=9 body=8bitmime\r\n', ["250", "250"]),
        (b"EHLO x\r\nMAIL FROM:<> SIZE=10485761\r\n", ["250", "552"]),
        (b"EHLO x\r\nMAIL FROM:<> SIZE=x\r\nMAIL FROM:<> X\r\n", ["250", "555", "555"]),
        (b"EHLO x\r\nMAIL FROM:<" + b"a" * 251 + b"@b.c>\r\n", ["250", "501"]),
        (b"EHLO x\r\nMAIL FROM:<>\r\nDATA\r\nRCPT TO:<>\r\n", ["250", "250", "503", "550"]),
        (b"RCPT TO:<a@example.org>\r\nDATA\r\n", ["503", "503"]),
        (b"VRFY bob\r\nEXPN all\r\nHELP\r\nSING\r\n\r\n", ["252", "502", "502", "500", "500"]),
        (b"NOOP\nNOOP\r\nNO\xc3\xb6P\r\n", ["500", "250", "500"]),
        # These would be headers of the message.
        (
            b'EHLO x\r\nMAIL FROM:<"a\rFrom: boss\r"@b.c>\r\nMAIL FROM:<a\0@b.c>\r\n',
            ["250", "500", "500"],
        ),
        (
            b"NOOP " + b"x" * 548 + b"\r\nNOOP " + b"x" * 549 + b"\r\nNOOP\r\n",
            ["250", "500", "250"],
        ),
        (b"x" * 300_000 + b"\r\nNOOP\r\n", ["500", "250"]),
        (b"STARTTLS now\r\nDATA now\r\n", ["501", "501"]),
        (BEGIN + b"x" * 999 + b"\r\n.\r\n", [*BEGUN[1:], "500"]),
        (
            b"EHLO x\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<a@example.org>\r\n" * 101,
            ["250", "250"] + ["250"] * 100 + ["452"],
        ),
    ],
)
def test_errors_are_answered_as_the_protocol_says(server, said, codes):
    assert codes_of(server.ask(said)) == ["220", *codes, "421"]


@on_one_engine
def test_a_message_without_an_end_is_not_kept(server, kept):
    assert codes_of(server.ask(BEGIN + b"a line\r\n.")) == BEGUN
    assert not kept()


@on_one_engine
def test_a_message_that_is_too_large_is_read_to_its_end_and_refused(server, kept):
    line = b"x" * 78 + b"\r\n"
    answers = server.ask(BEGIN + line * 140_000 + b".\r\nNOOP\r\nQUIT\r\n")
    assert codes_of(answers) == [*BEGUN, "552", "250", "221"]
    assert not kept()


@on_one_engine
def test_a_message_that_can_not_be_kept_is_to_be_sent_again(server, kept):
    folder = server.maildir / "tmp"
    folder.rmdir()
    try:
        assert codes_of(server.ask(BEGIN + b"x\r\n.\r\n"))[:6] == [*BEGUN, "451"]
    finally:
        folder.mkdir()
    assert codes_of(server.ask(BEGIN + b"x\r\n.\r\n"))[:6] == [*BEGUN, "250"]
    assert len(kept()) == 1
