"""An HTTP/1.1 server (RFC 9110, 9112) on h11: the files of a folder, and an echo at /echo.

    python examples/protocols/http1.py --bind 127.0.0.1:8080 --folder .
    curl http://127.0.0.1:8080/README.md

h11 knows the protocol, and no sockets: bytes in, events out, and back.
"""

import argparse
import contextlib
import email.utils
import functools
import mimetypes
import os
import re
import sys
import time
import urllib.parse
from http import HTTPStatus
from pathlib import Path
from typing import cast

import h11

import anysock

MAX_HEAD = 16 << 10  # bytes of a request up to its body, or of a chunk's head
MAX_BODY = 1 << 20
SMALL_FILE = 64 << 10  # one that is sent together with its head, and with other answers
MAX_WAITING = 64  # pieces of answers that wait to be sent together
RECEIVE_SECONDS = 30  # for the head of a request, or a piece of its body

Header = tuple[str, str]


class Refused(Exception):
    def __init__(self, status: int, *headers: Header) -> None:
        self.status, self.headers = status, headers


@functools.lru_cache(maxsize=1)
def date(now: int) -> str:
    return email.utils.formatdate(now, usegmt=True)


def span_of(wanted: bytes, size: int) -> range | None:
    """Which bytes of a file of `size` bytes a Range header asks for; None: it is to be ignored."""
    match = re.fullmatch(rb"bytes=([0-9]{1,18})-([0-9]{0,18})|bytes=-([0-9]{1,18})", wanted)
    if match is None:
        return None  # several, or something new
    first, last, from_the_end = match.groups()
    if from_the_end is not None:
        span = range(max(size - int(from_the_end), 0), size)
    else:
        span = range(int(first), min(int(last or size) + 1, size))
    if not span:
        raise Refused(416, ("Content-Range", f"bytes */{size}"))
    return span


class Conversation:
    def __init__(self, folder: Path, connection: anysock.Connection) -> None:
        self.folder, self.connection = folder.resolve(), connection
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self.waiting: list[bytes] = []  # answers, to be sent at once
        self.head = False

    async def hold(self) -> None:
        """Answer one request after the other, and as many as have come together by one send."""
        while self.http.our_state is h11.IDLE:
            self.head = False
            try:
                request = await self.receive()
                if not isinstance(request, h11.Request):
                    break
                await self.respond(request)
            except Refused as error:
                self.refuse(error)
            if self.http.our_state is self.http.their_state is h11.DONE:
                self.http.start_next_cycle()
            if len(self.waiting) > MAX_WAITING:
                await self.flush()
        await self.flush()

    async def receive(self) -> object:
        """The next event that h11 makes of what comes."""
        async with anysock.move_on_after(RECEIVE_SECONDS):
            try:
                while (event := self.http.next_event()) is h11.NEED_DATA:
                    if self.http.they_are_waiting_for_100_continue:
                        self.send(h11.InformationalResponse(status_code=100, headers=[]))
                    await self.flush()
                    self.http.receive_data(await self.connection.recv())
                return event
            except h11.RemoteProtocolError as error:
                # Half a request may be due to our own end.
                status = 503 if self.connection.draining else error.error_status_hint
                raise Refused(status) from None
        if self.http.their_state is h11.IDLE and not self.http.trailing_data[0]:
            return h11.ConnectionClosed()  # no request has begun
        raise Refused(408)

    async def receive_body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self.receive(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise Refused(413)
        return bytes(body)

    async def respond(self, request: h11.Request) -> None:
        self.head = request.method == b"HEAD"
        headers = dict(request.headers)
        path = urllib.parse.unquote(re.sub(r"^https?://[^/?]*|\?.*", "", request.target.decode()))
        allowed = ("POST",) if path == "/echo" else ("GET", "HEAD")
        if request.method.decode() not in allowed:
            raise Refused(405, ("Allow", ", ".join(allowed)))
        if int(headers.get(b"content-length", 0)) > MAX_BODY:
            raise Refused(413)  # and there is no 100 Continue
        body = await self.receive_body()
        if path == "/echo":
            kind = headers.get(b"content-type", b"application/octet-stream").decode(
                "ascii", "ignore"
            )
            form = [("Transfer-Encoding", "chunked")] if b"transfer-encoding" in headers else []
            self.answer(200, body, ("Content-Type", kind), *form)
        else:
            await self.answer_file(path, headers.get(b"range", b""))

    def send(self, event: h11.Event) -> None:
        self.waiting.append(self.http.send(event) or b"")

    async def flush(self) -> None:
        if self.waiting:
            waiting, self.waiting = self.waiting, []
            await self.connection.send_all(waiting)

    def begin(self, status: int, *headers: Header) -> None:
        every = [("Date", date(int(time.time()))), *headers]
        # What is left of a request would be taken for the next one.
        if self.connection.draining or self.http.their_state is not h11.DONE:
            every.append(("Connection", "close"))
        reason = HTTPStatus(status).phrase
        self.send(h11.Response(status_code=status, reason=reason, headers=every))

    def refuse(self, error: Refused) -> None:
        with contextlib.suppress(h11.RemoteProtocolError):
            self.http.next_event()  # the end of a request that has no body
        if self.http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.answer(error.status, b"%d\n" % error.status, *error.headers)

    def answer(self, status: int, body: bytes, *headers: Header) -> None:
        self.begin(status, ("Content-Length", str(len(body))), *headers)
        if not self.head:
            self.send(h11.Data(data=body))
        self.send(h11.EndOfMessage())

    async def answer_file(self, path: str, wanted: bytes) -> None:
        try:
            found = (self.folder / path.lstrip("/")).resolve()
            found = (found / "index.html").resolve() if found.is_dir() else found
            if not found.is_file() or not found.is_relative_to(self.folder):
                raise FileNotFoundError
            file = found.open("rb")
        except (OSError, ValueError):  # no such file; no name of a file
            raise Refused(404) from None
        with file:
            size = os.fstat(file.fileno()).st_size
            span = span_of(wanted, size)
            kind = mimetypes.guess_type(found)[0] or "application/octet-stream"
            headers = [("Content-Type", kind), ("Accept-Ranges", "bytes")]
            if span is not None:
                headers.append(("Content-Range", f"bytes {span[0]}-{span[-1]}/{size}"))
            status, span = (206, span) if span else (200, range(size))
            self.begin(status, *headers, ("Content-Length", str(len(span))))
            if not self.head and len(span) <= SMALL_FILE:
                file.seek(span.start)
                self.send(h11.Data(data=file.read(len(span))))
            elif not self.head:
                await self.flush()
                # h11 only wants to know how long it is.
                self.http.send_with_data_passthrough(h11.Data(data=cast(bytes, span)))
                if await self.connection.send_file(file, span.start, len(span)) < len(span):
                    raise ConnectionAbortedError("the file has become shorter")
            self.send(h11.EndOfMessage())


async def http1(folder: Path, connection: anysock.Connection) -> None:
    await Conversation(folder, connection).hold()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--bind", default="127.0.0.1:8080")
    parser.add_argument("-e", "--engine", default="selector")
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    handler = functools.partial(http1, given.folder)
    sys.exit(anysock.serve(handler, bind=given.bind, engine=given.engine) > 0)
