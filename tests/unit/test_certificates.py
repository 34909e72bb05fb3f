"""What can be wrong with certificates and keys: one clear line for each."""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

import anysock
from anysock.errors import StartError
from anysock.net.certificates import (
    Certificates,
    Identities,
    client_context,
    doubts_about,
    names_of,
    server_context,
)
from anysock.net.x509 import dns_names, validity


def encrypted(key: Path, form: serialization.PrivateFormat, to: Path) -> Path:
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    to.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, secret))
    return to


def test_what_is_right(pki):
    both = server_context(pki.server.both)
    apart = server_context(str(pki.server.cert), pki.server.key)
    for context in (both, apart, client_context(), client_context(insecure=True)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert apart.verify_mode == ssl.CERT_NONE
    mutual = server_context(pki.server.cert, pki.server.key, pki.ca)
    assert mutual.verify_mode == ssl.CERT_REQUIRED
    assert client_context().verify_mode == client_context(pki.ca).verify_mode == ssl.CERT_REQUIRED
    assert client_context(pki.ca).check_hostname


@pytest.mark.parametrize(
    ("cert", "key", "told"),
    [
        ("no-such.pem", "server.key", "can't read the certificate file {cert}: No such file or"),
        ("server.pem", "no-such.key", "can't read the key file {key}: No such file or directory"),
        (".", "server.key", "can't read the certificate file {cert}: Is a directory"),
        ("empty", "server.key", "no certificate in {cert}: a PEM file is wanted"),
        ("junk", "server.key", "no certificate in {cert}: a PEM file is wanted"),
        ("der", "server.key", "no certificate in {cert}: a PEM file is wanted"),
        ("server.key", "server.pem", "no certificate in {cert}: a PEM file is wanted"),
        ("server.pem", None, "no private key in {cert}: a PEM file is wanted"),
        ("server.pem", "junk", "no private key in {key}: a PEM file is wanted"),
        ("server.pem", "server.pem", "no private key in {key}: a PEM file is wanted"),
        ("damaged.pem", "server.key", "the certificate in {cert} is damaged: OpenSSL can't read"),
        ("server.pem", "damaged.key", "the private key in {key} is damaged: OpenSSL can't read"),
        ("server.pem", "other.key", "the key in {key} does not belong to the certificate"),
        ("server.pem", "pkcs8.key", "the key in {key} needs a pass phrase, and a server"),
        ("server.pem", "old.key", "the key in {key} needs a pass phrase, and a server can"),
    ],
)
def test_what_is_wrong_with_a_certificate_or_a_key(pki, cert, key, told):
    folder = pki.folder
    server, _ = pki.server, pki.issue("other")
    (folder / "empty").write_bytes(b"")
    (folder / "junk").write_bytes(b"hello\n")
    (folder / "der").write_bytes(ssl.PEM_cert_to_DER_cert(server.cert.read_text()))
    (folder / "damaged.pem").write_bytes(server.cert.read_bytes()[:200])
    (folder / "damaged.key").write_bytes(server.key.read_bytes().replace(b"M", b"N", 1))
    encrypted(server.key, serialization.PrivateFormat.PKCS8, folder / "pkcs8.key")
    encrypted(server.key, serialization.PrivateFormat.TraditionalOpenSSL, folder / "old.key")
    files = {"cert": folder / cert, "key": None if key is None else folder / key}
    with pytest.raises(StartError) as caught:
        server_context(**files)
    assert str(caught.value).startswith(told.format(**files))
    assert "\n" not in str(caught.value)
    with pytest.raises(StartError) as caught:
        client_context(**files)
    assert str(caught.value).startswith(told.format(**files))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't read the CA file {}: No such file or directory"),
        (b"", "no certificate in {}: a PEM file is wanted"),
        (b"hello", "no certificate in {}: a PEM file is wanted"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "the CA in {} is damaged: OpenSSL can't read it",
        ),
    ],
)
def test_what_is_wrong_with_a_ca(pki, tmp_path, content, told):
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_bytes(content)
    with pytest.raises(StartError) as caught:
        server_context(pki.server.both, client_ca=ca)
    assert str(caught.value) == told.format(ca)
    with pytest.raises(StartError) as caught:
        client_context(ca)
    assert str(caught.value) == told.format(ca)


def test_a_file_without_the_right_to_it(pki, monkeypatch):
    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StartError, match=r"can't read the certificate file .*: Permission denied"):
        server_context(pki.folder / "any.pem")


def test_no_descriptor_is_left_when_openssl_opens_a_file(pki, monkeypatch):
    """Then an old certificate stays, and nobody is taken along."""

    def load(self, *_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    certificates = Certificates(pki.server.cert, pki.server.key, pki.ca)
    before = certificates.context
    for method in "load_cert_chain", "load_verify_locations":
        with monkeypatch.context() as patch:
            patch.setattr(ssl.SSLContext, method, load)
            with pytest.raises(StartError, match="Too many open files"):
                certificates.reload()
    assert certificates.context is before


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "too many")])
def test_a_reload_that_fails_for_want_of_something_ends_no_server(pki, monkeypatch, error):
    told: list[Exception] = []

    class Told(anysock.Events):
        def reload_failed(self, error: Exception) -> None:
            told.append(error)

    async def main() -> bytes:
        async with anysock.Server(
            "echo",
            bind="tls://127.0.0.1:0",
            events=Told(),
            tls_cert=str(pki.server.cert),
            tls_key=str(pki.server.key),
        ) as one:
            monkeypatch.setattr(Certificates, "reload", Mock(side_effect=error))
            one.reload()
            context = client_context(insecure=True)
            async with await anysock.connect(one.addresses[0], tls=context) as connection:
                await connection.send_all(b"hello")
                return await connection.recv()

    assert anysock.run(main) == b"hello"
    assert told == [error]


def test_certificates_are_replaced_only_by_good_ones(pki):
    live, other = pki.issue("live"), pki.issue("renewed")
    certificates = Certificates(live.cert, live.key)
    first = certificates.context
    live.cert.write_bytes(other.cert.read_bytes())
    with pytest.raises(StartError, match="does not belong"):
        certificates.reload()
    assert certificates.context is first
    live.key.write_bytes(other.key.read_bytes())
    certificates.reload()
    assert certificates.context is not first
    live.key.unlink()
    with pytest.raises(StartError, match="No such file"):
        certificates.reload()


# -- names ---------------------------------------------------------------------------------------


def test_the_names_of_a_certificate_are_those_that_it_is_for(pki):
    identity = pki.issue("named", "WWW.example.com", "*.Example.org", "127.0.0.1", "a@b.example")
    der = ssl.PEM_cert_to_DER_cert(identity.cert.read_text())
    true = x509.load_der_x509_certificate(der).extensions
    alternatives = true.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(dns_names(der)) == alternatives.get_values_for_type(x509.DNSName)
    assert names_of(identity.both) == tuple(name.lower() for name in dns_names(der))
    # Its own chain is not its names; and a CA has none.
    assert names_of(pki.ca) == ()


def test_a_client_gets_the_certificate_that_is_for_the_name_that_it_asks_for(pki):
    files = [
        pki.issue("first", "first.example").both,
        pki.issue("wild", "*.example.com", "shop.example.com").both,
        pki.issue("exact", "www.example.com", "FIRST.example").both,
    ]
    shown = Certificates(files).identities
    first, wild = shown.default, shown.context_for("any.example.com")
    exact = shown.context_for("www.example.com")
    assert len({first, wild, exact}) == 3
    for name, context in {
        None: first,
        "": first,
        "other.example": first,
        "first.example": first,  # the first of two that are for it
        "First.Example.": first,
        "ANY.example.com": wild,
        "shop.example.com": wild,
        "WWW.example.COM": exact,
        "example.com": first,  # an asterisk is one label,
        "a.b.example.com": first,  # and no more,
        ".example.com": first,  # and not an empty one
        "*.example.com": wild,
    }.items():
        assert shown.context_for(name) is context, name


@given(st.lists(st.sampled_from(["a", "b", "*"]), max_size=4).map(".".join))
def test_whatever_is_asked_for_something_is_shown(name):
    one, other = Mock(), Mock()
    shown = Identities(one, {"a.b": other}, {"b": other})
    label, _, rest = name.partition(".")
    assert shown.context_for(name) is (other if label and rest == "b" else one)


def test_several_certificates_have_keys_in_their_files_or_one_each(pki):
    one, two = pki.issue("one", "one.example"), pki.issue("two", "two.example")
    apart = Certificates([one.cert, two.cert], [one.key, two.key])
    assert apart.identities.exact.keys() == {"one.example", "two.example"}
    with pytest.raises(
        StartError, match=r"one\.key does not belong to the certificate in .*two\.pem"
    ):
        Certificates([one.cert, two.cert], [one.key, one.key])
    before = apart.identities
    two.cert.write_bytes(b"junk")
    with pytest.raises(StartError, match=r"no certificate in .*two\.pem"):
        apart.reload()
    assert apart.identities is before


@given(st.binary(max_size=60))
def test_what_is_no_certificate_has_no_names(der):
    with contextlib.suppress(ValueError, IndexError):
        assert dns_names(der) == ()


@given(st.data())
def test_a_damaged_certificate_breaks_nothing(pki, data):
    der = bytearray(ssl.PEM_cert_to_DER_cert(pki.server.cert.read_text()))
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError, IndexError):
        dns_names(bytes(der))


# -- dates ----------------------------------------------------------------------------------------


def test_an_expired_certificate_and_one_that_is_not_yet_valid_are_told_with_their_dates(pki):
    held = Certificates(pki.server.cert, pki.server.key)
    assert held.doubts == ()
    der = ssl.PEM_cert_to_DER_cert(pki.server.cert.read_text())
    begin, end = validity(der)
    true = x509.load_der_x509_certificate(der)
    assert (begin, end) == (true.not_valid_before_utc, true.not_valid_after_utc)
    [late] = doubts_about(pki.server.cert, end + timedelta(seconds=1))
    assert f"{pki.server.cert} expired on {end:%Y-%m-%d}" in late
    [early] = doubts_about(pki.server.cert, begin - timedelta(seconds=1))
    assert f"{pki.server.cert} is not valid before {begin:%Y-%m-%d}" in early


def test_each_certificate_of_the_chain_is_looked_at(pki, tmp_path):
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pki.server.cert.read_bytes() + pki.ca.read_bytes())
    _, end = validity(ssl.PEM_cert_to_DER_cert(pki.ca.read_text()))
    found = doubts_about(chain, end + timedelta(days=1))
    assert any(text.startswith("certificate 2 in") for text in found)


@given(st.binary(max_size=60))
def test_what_is_no_certificate_has_no_dates(der):
    with contextlib.suppress(ValueError, IndexError):
        validity(der)
