"""HTTP/1.1 for the admin endpoint: one request a connection, and each in its time; but a feed goes
on until its client leaves."""

from __future__ import annotations

import email.utils
import ipaddress
import logging
from http import HTTPStatus

import h11

from anysock.admin.live import EVERY_SECONDS, Feed
from anysock.admin.pages import Answer, Pages, Request, line
from anysock.admin.places import Places
from anysock.engines.current import current_engine
from anysock.streams.connection import Connection

# Seconds that a client may take to send its request, and to read the answer.
REQUEST_SECONDS = 2.0
ANSWER_SECONDS = 10.0

EVENT_STREAM = "text/event-stream"

_log = logging.getLogger("anysock.admin")


class HttpHandler:
    """A handler that answers HTTP requests with `pages`."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._places = Places()

    async def __call__(self, connection: Connection) -> None:
        with self._places.one(connection):
            await self._converse(connection)
            # Inside the block: a client that does not leave keeps its place until it does.
            await connection.close()

    async def _converse(self, connection: Connection) -> None:
        http = h11.Connection(h11.SERVER)
        engine = current_engine()
        answer: Answer | Feed | None = None
        head = False
        async with engine.scope(REQUEST_SECONDS) as time_limit:
            try:
                request = await _receive(http, connection)
                if request is None:
                    return
                head = request.method == "HEAD"
                answer = self._answer(request, connection)
            except h11.RemoteProtocolError as error:
                answer = line(error.error_status_hint, str(error))
        if time_limit.fired:
            answer = line(408, f"the request took more than {REQUEST_SECONDS:g} s")
        if isinstance(answer, Feed) and not head:
            if self._places.take_seat(connection):
                await self._feed(connection, http, answer)
                return
            answer = line(503, "too many look already")
        elif isinstance(answer, Feed):
            answer = Answer(200, b"", EVENT_STREAM)
        assert answer is not None
        self._places.has_asked(connection)
        date = email.utils.formatdate(engine.time(), usegmt=True)
        async with engine.scope(ANSWER_SECONDS):
            await connection.send_all(_to_bytes(http, answer, date, head=head))

    async def _feed(self, connection: Connection, http: h11.Connection, feed: Feed) -> None:
        """Tell `feed` until the client leaves, or does not read for too long."""
        engine = current_engine()
        date = email.utils.formatdate(engine.time(), usegmt=True)
        head = _head(http, 200, EVENT_STREAM, date)
        while True:
            data = http.send(h11.Data(data=self._next(feed)))
            async with engine.scope(ANSWER_SECONDS) as time_limit:
                await connection.send_all(head + (data or b""))
            if time_limit.fired:
                return
            head = b""
            await engine.sleep(EVERY_SECONDS)

    def _next(self, feed: Feed) -> bytes:
        try:
            return feed.next()
        except Exception:
            _log.exception("the admin endpoint failed at /events")
            raise

    def _answer(self, request: Request, connection: Connection) -> Answer | Feed:
        local = connection.local
        assert not isinstance(local, str)
        on_loopback = ipaddress.ip_address(local[0].partition("%")[0]).is_loopback
        try:
            return self._pages.answer(request, on_loopback=on_loopback)
        except Exception:  # noqa: BLE001
            _log.exception("the admin endpoint failed at %s", request.path)
            return line(500, "this failed; the log says how")


async def _receive(http: h11.Connection, connection: Connection) -> Request | None:
    """The request, without its body, which no page reads; None when the client has left without
    one. Raises `h11.RemoteProtocolError`."""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await connection.recv())
        elif isinstance(event, h11.Request):
            headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            return Request.parse(event.method.decode(), event.target.decode(), headers)
        else:
            return None


def _head(http: h11.Connection, status: int, kind: str, date: str, *more: tuple[str, str]) -> bytes:
    headers = [
        ("Date", date),
        ("Content-Type", kind),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
        *more,
    ]
    reason = HTTPStatus(status).phrase
    return http.send(h11.Response(status_code=status, reason=reason, headers=headers)) or b""


def _to_bytes(http: h11.Connection, answer: Answer, date: str, *, head: bool) -> bytes:
    length = ("Content-Length", str(len(answer.body)))
    parts = [_head(http, answer.status, answer.content_type, date, length, *answer.headers)]
    if not head:
        parts.append(http.send(h11.Data(data=answer.body)) or b"")
    parts.append(http.send(h11.EndOfMessage()) or b"")
    return b"".join(parts)
