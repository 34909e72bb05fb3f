"""Asking an admin endpoint what its server does, for `anysock top`."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from anysock.errors import StartError
from anysock.net.addresses import Address

# Seconds that an answer may take.
PATIENCE = 5.0

#: The version of the document that is understood; a later one may mean something else.
VERSION = 1

# What is read here of a document. One that lacks any of it is not of an admin endpoint of ours.
_FIELDS = ("figures", "held_up", "connections", "open", "matching", "ready", "write", "time")


class NoAnswer(StartError):
    """The endpoint did not answer, or has answered something else."""


class LiveSource:
    """The admin endpoint at `address`."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def document(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """The document that ``/live`` has for `query`. Raises `NoAnswer`."""
        text = self._ask("GET", f"/live?{urllib.parse.urlencode(query)}")
        try:
            found = json.loads(text)
            version = found["version"]
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(f"what answers at {self.address.short} is no admin endpoint") from None
        if version != VERSION or any(name not in found for name in _FIELDS):
            raise NoAnswer(
                f"{self.address.short} speaks version {version!r}, and this knows {VERSION} only"
            )
        return dict(found)

    def end(self, connection: str) -> None:
        """Abort a connection, by its ID. Raises `NoAnswer`, also where that is not allowed."""
        self._ask("POST", f"/end?{urllib.parse.urlencode({'connection': connection})}")

    def _ask(self, method: str, target: str) -> bytes:
        host, port = self.address.host, self.address.port
        asked = http.client.HTTPConnection(host, port, timeout=PATIENCE)
        try:
            with contextlib.closing(asked):
                asked.request(method, target)
                answer = asked.getresponse()
                body = answer.read()
        except (OSError, UnicodeError) as error:  # a name may be none that can be asked for
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise NoAnswer(f"no answer from {self.address.short}: {why}") from None
        except http.client.HTTPException:
            raise NoAnswer(f"what answers at {self.address.short} speaks no HTTP") from None
        if answer.status != http.HTTPStatus.OK:
            said = body.decode(errors="replace").strip().partition("\n")[0][:200]
            raise NoAnswer(f"{self.address.short} has answered {answer.status}: {said}")
        return body
