"""What each path of the admin endpoint answers."""

from __future__ import annotations

import ipaddress
import json
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from anysock.admin import assets
from anysock.admin.figures import Figures
from anysock.admin.history import History
from anysock.admin.live import Feed, Live, since_of
from anysock.admin.prometheus import CONTENT_TYPE, exposition
from anysock.admin.query import LiveQuery

TEXT = "text/plain; charset=utf-8"

# How many connections are listed by default: as many as somebody may still read, and few enough to
# be formatted without holding up the server's own threads.
CONNECTIONS_SHOWN = 1000


READ_ONLY = "the server was not started with --admin-write"


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

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def number(self, name: str, default: int) -> int:
        """A number of the query. Raises ValueError when it is none."""
        query = urllib.parse.parse_qs(self.query)
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
    """Answers requests from `figures`, and their `history` (None: one without samples). With
    `write`, clients may end connections, and the server; and the page in a browser may do what
    `curl` may."""

    def __init__(
        self, figures: Figures, history: History | None = None, *, write: bool = False
    ) -> None:
        self._figures = figures
        self._live = Live(figures, history or History(figures), write=write)
        self._write = write
        self._pages: dict[tuple[str, str], Callable[[Request], Answer | Feed]] = {
            ("GET", "/"): self._index,
            ("GET", "/healthz"): self._health,
            ("GET", "/readyz"): self._ready,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/connections"): self._connections,
            ("GET", "/live"): self._document,
            ("GET", "/events"): self._feed,
            ("POST", "/pause"): self._pause,
            ("POST", "/resume"): self._resume,
            ("POST", "/drain"): self._drain,
            ("POST", "/end"): self._end,
        }

    def answer(self, request: Request, *, on_loopback: bool) -> Answer | Feed:
        """Answer a request, which has come over the loopback interface or not."""
        refused = _strange(request, on_loopback=on_loopback, write=self._write)
        if refused is not None:
            return line(403, refused)
        method = "GET" if request.method == "HEAD" else request.method
        page = self._pages.get((method, request.path))
        if page is not None:
            return page(request)
        if method == "GET" and request.path in assets.FILES:
            return Answer(200, *assets.read(assets.FILES[request.path]))
        allowed = [method for method, path in self._pages if path == request.path]
        if allowed:
            return line(405, f"use {allowed[0]}", ("Allow", ", ".join(allowed)))
        return line(404, self._what_there_is())

    def _what_there_is(self) -> str:
        return "there is: " + ", ".join(" ".join(page) for page in self._pages)

    def _index(self, request: Request) -> Answer:
        """For a browser, the live page; for others, what there is."""
        if "text/html" not in request.headers.get("accept", ""):
            return line(200, self._what_there_is())
        body, kind = assets.read("index.html")
        return Answer(200, body, kind, (("Content-Security-Policy", assets.POLICY),))

    def _document(self, request: Request) -> Answer:
        try:
            query, since = LiveQuery.parse(request.query), since_of(request.query)
        except ValueError as error:
            return line(400, str(error))
        document = self._live.document(query, since)
        return Answer(200, json.dumps(document).encode() + b"\n", "application/json")

    def _feed(self, request: Request) -> Answer | Feed:
        try:
            return Feed(self._live, LiveQuery.parse(request.query))
        except ValueError as error:
            return line(400, str(error))

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

    def _drain(self, _request: Request) -> Answer:
        if not self._write:
            return line(403, READ_ONLY)
        self._figures.drain()
        return line(200, "draining")

    def _end(self, request: Request) -> Answer:
        if not self._write:
            return line(403, READ_ONLY)
        names = urllib.parse.parse_qs(request.query).get("connection")
        if names is None:
            return line(400, "connection: expected its ID, as in /end?connection=4711-17")
        if not self._figures.end(names[-1]):
            return line(404, "no such connection")
        return line(200, "ended")

    def _now(self) -> Answer:
        return line(200, self._figures.ready() or "ready")


def _strange(request: Request, *, on_loopback: bool, write: bool) -> str | None:
    """Why a request is refused: a web page of another site has made a browser send it.

    A browser on the machine reaches the loopback interface, too. What it sends for a page of
    another site has an Origin (Fetch standard, section 3.2), and if that site's name was made to
    point here, a Host that is not ours.
    """
    reads = request.method in ("GET", "HEAD")
    if not reads and "origin" in request.headers and not (write and _is_own_page(request)):
        return "not from a web page"
    # What another page may not read would still take one of the few places.
    site = request.headers.get("sec-fetch-site", "none")
    if (not reads or request.path == "/events") and site not in ("none", "same-origin"):
        return "not from a web page"
    if not on_loopback or "host" not in request.headers:
        return None
    if not _is_number_or_localhost(request.headers["host"]):
        return "on the loopback interface, ask for localhost or an IP address"
    return None


def _is_own_page(request: Request) -> bool:
    """Whether a request with an Origin is from the live page. Asked for by a name, it can't be told
    from a page whose name was made to point here, on whatever interface."""
    host = request.headers.get("host", "")
    return request.headers["origin"] == f"http://{host}" and _is_number_or_localhost(host)


def _is_number_or_localhost(host: str) -> bool:
    try:
        name = urllib.parse.urlsplit("//" + host).hostname or ""
        if name != "localhost":
            ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
