"""What each path of the admin endpoint answers."""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from anysock.admin.figures import Figures
from anysock.admin.prometheus import CONTENT_TYPE, exposition

TEXT = "text/plain; charset=utf-8"

# How many connections are listed by default: as many as somebody may still read, and few enough to
# be formatted without holding up the server's own threads.
CONNECTIONS_SHOWN = 1000


@dataclass(frozen=True)
class Request:
    method: str
    #: With its query.
    target: str
    #: By their names in lower case.
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, method: str, target: str, headers: Mapping[str, str]) -> Request:
        """A request as it was sent. A `target` such as ``http://localhost:9000/metrics``, as a
        proxy is sent it, means what ``/metrics`` and a Host of ``localhost:9000`` mean, whatever
        Host there is (RFC 9112, section 3.2.2)."""
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            return cls(method, target, headers)
        end = min((rest + mark).index(mark) for mark in "/?")
        path = rest[end:]
        return cls(
            method,
            path if path.startswith("/") else f"/{path}",
            {**headers, "host": rest[:end]},
        )

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def number(self, name: str, default: int) -> int:
        """A number of the query. Raises ValueError when it is none."""
        query = urllib.parse.parse_qs(self.target.partition("?")[2])
        found = query.get(name, [str(default)])[-1]
        if not (found.isascii() and found.isdigit()):
            raise ValueError
        return int(found)


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def line(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, f"{text}\n".encode(), headers=headers)


class Pages:
    """Answers requests from `figures`."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._pages: dict[tuple[str, str], Callable[[Request], Answer]] = {
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/connections"): self._connections,
            ("POST", "/pause"): self._pause,
            ("POST", "/resume"): self._resume,
        }

    def answer(self, request: Request, *, on_loopback: bool) -> Answer:
        """Answer a request, which has come over the loopback interface or not."""
        refused = _strange(request, on_loopback=on_loopback)
        if refused is not None:
            return line(403, refused)
        method = "GET" if request.method == "HEAD" else request.method
        page = self._pages.get((method, request.path))
        if page is not None:
            return page(request)
        allowed = [method for method, path in self._pages if path == request.path]
        if allowed:
            return line(405, f"use {allowed[0]}", ("Allow", ", ".join(allowed)))
        names = ", ".join(" ".join(page) for page in self._pages)
        return line(200 if request.path == "/" else 404, f"there is: {names}")

    def _health(self, _request: Request) -> Answer:
        figures = self._figures.snapshot()
        if figures["workers"] and figures["stuck"] >= figures["workers"]:
            return line(503, f"held up for {figures['lag']:.0f} s")
        return line(200, "alive")

    def _ready(self, _request: Request) -> Answer:
        reason = self._figures.ready()
        return line(200, "ready") if reason is None else line(503, reason)

    def _metrics(self, _request: Request) -> Answer:
        return Answer(200, exposition(self._figures.snapshot()), CONTENT_TYPE)

    def _connections(self, request: Request) -> Answer:
        try:
            most = request.number("most", CONNECTIONS_SHOWN)
        except ValueError:
            return line(400, "most: expected a number")
        shown = self._figures.connections(most)
        found = {
            # Connections that were opened since count for neither.
            "open": max(self._figures.snapshot()["connections"], len(shown)),
            "shown": len(shown),
            "connections": shown,
        }
        return Answer(200, json.dumps(found).encode() + b"\n", "application/json")

    def _pause(self, _request: Request) -> Answer:
        self._figures.pause()
        return self._now()

    def _resume(self, _request: Request) -> Answer:
        self._figures.resume()
        return self._now()

    def _now(self) -> Answer:
        return line(200, self._figures.ready() or "ready")


def _strange(request: Request, *, on_loopback: bool) -> str | None:
    """Why a request is refused: a web page of another site has made a browser send it.

    A browser on the machine reaches the loopback interface, too. What it sends for a page of
    another site has an Origin (Fetch standard, section 3.2), and if that site's name was made to
    point here, a Host that is not ours.
    """
    if request.method not in ("GET", "HEAD") and "origin" in request.headers:
        return "not from a web page"
    if not on_loopback or "host" not in request.headers:
        return None
    try:
        host = urllib.parse.urlsplit("//" + request.headers["host"]).hostname or ""
        if host != "localhost":
            ipaddress.ip_address(host)
    except ValueError:
        return "on the loopback interface, ask for localhost or an IP address"
    return None
