"""Certificates for tests: made anew for each run, with `trustme`."""

from __future__ import annotations

import functools
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as files and in one file."""

    cert: Path
    key: Path
    both: Path


class Pki:
    """A CA that tests trust, and one that they do not; files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self._stranger = trustme.CA()
        self.ca = folder / "ca.pem"
        self.strange_ca = folder / "strange_ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)
        self._stranger.cert_pem.write_to_path(self.strange_ca)

    def issue(self, name: str, *hosts: str, strange: bool = False) -> Identity:
        """A certificate for `hosts` (localhost and 127.0.0.1), in files that begin with `name`."""
        ca = self._stranger if strange else self._ca
        issued = ca.issue_cert(*(hosts or ("localhost", "127.0.0.1")))
        files = [self.folder / f"{name}.{kind}" for kind in ("pem", "key", "both.pem")]
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        files[0].write_bytes(chain)
        files[1].write_bytes(issued.private_key_pem.bytes())
        files[2].write_bytes(issued.private_key_pem.bytes() + chain)
        return Identity(*files)

    # Made when they are first wanted.

    @functools.cached_property
    def server(self) -> Identity:
        return self.issue("server")

    @functools.cached_property
    def client(self) -> Identity:
        return self.issue("client", "somebody@example.org")

    @functools.cached_property
    def strange_client(self) -> Identity:
        return self.issue("strange", "stranger@example.org", strange=True)
