"""HTTP/1.1 by h11, without a socket in sight: a text for whoever asks.

All servers of the comparison share it, but for uvicorn, which uses h11 in its own way, and answers
with the same headers.
"""

from __future__ import annotations

import functools
import time
from email.utils import formatdate

import h11

BODY = b"Hello, world\n"

#: Those of the application; ``date`` and ``server`` go before them.
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(BODY))]

_BODY, _END = h11.Data(data=BODY), h11.EndOfMessage()


class Session:
    """One client's conversation: bytes of requests in, bytes of answers out."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER)
        #: Whether the client wants no more, so that the connection is to be closed.
        self.over = False

    def receive(self, data: bytes) -> bytes:
        """The answers to the requests that `data` completes."""
        self._http.receive_data(data)
        answers = []
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.EndOfMessage):
                    answers.append(self._answer(200, b"OK"))
                    if self._http.our_state is h11.MUST_CLOSE:
                        self.over = True
                        break
                    self._http.start_next_cycle()
                    if not self._http.trailing_data[0]:
                        break  # to ask for the next event would cost 3 µs
        except h11.RemoteProtocolError as error:
            self.over = True
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                answers.append(self._answer(error.error_status_hint, b"Bad Request"))
        return b"".join(answers)

    def _answer(self, status: int, reason: bytes) -> bytes:
        send = self._http.send
        pieces = (
            send(_response(status, reason, int(time.time()))),
            send(_BODY),
            send(_END),
        )
        return b"".join(piece for piece in pieces if piece)


@functools.lru_cache(maxsize=4)
def _response(status: int, reason: bytes, now: int) -> h11.Response:
    """The head of an answer at the time `now`, in seconds: its ``date`` changes once in one."""
    headers = [(b"date", formatdate(now, usegmt=True).encode()), (b"server", b"anysock"), *HEADERS]
    return h11.Response(status_code=status, headers=headers, reason=reason)
