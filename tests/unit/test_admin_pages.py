"""What the admin endpoint answers, of figures that a test makes up."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import anysock
from anysock.admin import ServerFigures, admin_server
from anysock.admin.figures import STUCK_SECONDS
from anysock.admin.loop_lag import KEEP_SECONDS, LoopLagProbe
from anysock.admin.pages import Answer, Pages, Request
from anysock.admin.query import LiveQuery
from anysock.net.addresses import Address
from anysock.telemetry.metrics import snapshot
from tests.harness import CONCURRENT_ENGINES, SIMULATED

OURS = {"host": "127.0.0.1:9000"}

every_concurrent_engine = pytest.mark.parametrize(
    "concurrent_engine", [*CONCURRENT_ENGINES, *SIMULATED]
)


class MadeUp:
    """`Figures` of nobody."""

    def __init__(self, **figures: Any) -> None:
        self.figures = {"stuck": 0, "lag": 0.0} | figures
        self.reason: str | None = None
        self.ended: list[str] = []

    def snapshot(self) -> dict[str, Any]:
        return snapshot(anysock.Counters(), None) | self.figures

    def connections(self, most: int) -> list[dict[str, Any]]:
        return [{"peer": str(number)} for number in range(min(most, 5))]

    def live(self, query: LiveQuery) -> dict[str, Any]:
        return {
            "figures": self.snapshot(), "steps": None, "workers": [], "held_up": [],
            "open": 5, "matching": 5, "rows": [],
        }  # fmt: skip

    def end(self, connection: str) -> bool:
        self.ended.append(connection)
        return connection == "4711-17"

    def drain(self) -> None:
        self.reason = "draining"

    def ready(self) -> str | None:
        return self.reason

    def pause(self) -> None:
        self.reason = "accepting is paused"

    def resume(self) -> None:
        self.reason = None


def ask(
    figures: MadeUp, target: str, method: str = "GET", *, write: bool = False, **headers: str
) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(method, target, OURS | named)
    answer = Pages(figures, write=write).answer(request, on_loopback=True)
    assert isinstance(answer, Answer)
    return answer.status, answer.body.decode()


@pytest.mark.parametrize(
    ("target", "host", "origin"),
    [
        ("/metrics?most=3", "told", "/metrics?most=3"),
        ("http://localhost:9000/metrics?most=3", "localhost:9000", "/metrics?most=3"),
        ("HTTPS://[::1]:9000/", "[::1]:9000", "/"),
        ("http://localhost", "localhost", "/"),
        ("http://localhost?most=3", "localhost", "/?most=3"),
        ("http://a/http://b/", "a", "/http://b/"),
        ("ftp://localhost/metrics", "told", "ftp://localhost/metrics"),
        ("/?http://localhost/metrics", "told", "/?http://localhost/metrics"),
        ("*", "told", "*"),
    ],
)
def test_a_target_with_a_host_has_the_last_word_on_it(target, host, origin):
    """RFC 9112, section 3.2.2."""
    request = Request.parse("GET", target, {"host": "told", "accept": "*/*"})
    assert request == Request("GET", origin, {"host": host, "accept": "*/*"})


@pytest.mark.parametrize(
    ("workers", "stuck", "status"),
    [(1, 0, 200), (1, 1, 503), (4, 3, 200), (4, 4, 503), (0, 0, 200)],
)
def test_dead_is_who_has_no_engine_left_that_moves(workers, stuck, status):
    told = ask(MadeUp(workers=workers, stuck=stuck, lag=42.4), "/healthz")
    assert told == (status, "alive\n" if status == 200 else "held up for 42 s\n")


def test_ready_paused_resumed():
    figures = MadeUp()
    assert ask(figures, "/readyz") == (200, "ready\n")
    assert ask(figures, "/pause", "POST") == (200, "accepting is paused\n")
    assert ask(figures, "/readyz") == (503, "accepting is paused\n")
    assert ask(figures, "/resume", "POST") == (200, "ready\n")
    figures.reason = "draining"
    assert ask(figures, "/readyz?x=y") == (503, "draining\n")


def test_so_many_connections_are_shown():
    status, text = ask(MadeUp(connections=70), "/connections?most=2")
    assert status == 200
    assert json.loads(text) == {
        "open": 70,
        "shown": 2,
        "connections": [{"peer": "0"}, {"peer": "1"}],
    }
    assert ask(MadeUp(), "/connections?most=x") == (400, "most: expected a number\n")
    assert ask(MadeUp(), "/connections?most=-1")[0] == 400


def test_what_there_is_not_is_told_with_what_there_is():
    status, text = ask(MadeUp(), "/nope")
    assert status == 404
    assert "GET /healthz" in text
    assert ask(MadeUp(), "/")[0] == 200
    assert ask(MadeUp(), "/pause") == (405, "use POST\n")
    assert ask(MadeUp(), "/metrics", "POST") == (405, "use GET\n")
    assert ask(MadeUp(), "/metrics", "HEAD")[0] == 200


def test_a_web_page_can_not_pause_the_server():
    figures = MadeUp()
    status, _ = ask(figures, "/pause", "POST", origin="http://127.0.0.1:9000")
    assert status == 403
    assert figures.reason is None


def test_ending_and_draining_need_to_be_allowed():
    figures = MadeUp()
    for target in ("/end?connection=4711-17", "/drain"):
        status, said = ask(figures, target, "POST")
        assert (status, "--admin-write" in said) == (403, True)
    assert (figures.ended, figures.reason) == ([], None)
    assert ask(figures, "/end?connection=4711-17", "POST", write=True) == (200, "ended\n")
    assert ask(figures, "/end?connection=4711-18", "POST", write=True)[0] == 404
    assert ask(figures, "/end", "POST", write=True)[0] == 400
    assert ask(figures, "/end?connection=4711-17", write=True) == (405, "use POST\n")
    assert figures.ended == ["4711-17", "4711-18"]
    assert ask(figures, "/drain", "POST", write=True) == (200, "draining\n")
    assert figures.reason == "draining"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:9000", "sec_fetch_site": "same-origin"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 200),
        ({}, 200),
        ({"origin": "http://127.0.0.1:9001", "sec_fetch_site": "same-site"}, 403),
        ({"origin": "http://evil.example", "sec_fetch_site": "cross-site"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        # A name that was made to point here: to the browser, it is one site.
        ({"origin": "http://evil.example:9000", "host": "evil.example:9000"}, 403),
    ],
)
@pytest.mark.parametrize("target", ["/end?connection=4711-17", "/drain", "/pause", "/resume"])
def test_with_admin_write_our_own_page_may_and_no_other(target, headers, status):
    figures = MadeUp()
    figures.reason = "before"
    assert ask(figures, target, "POST", write=True, **headers)[0] == status
    if status == 403:
        assert (figures.ended, figures.reason) == ([], "before")


def test_a_name_made_to_point_here_may_not_on_any_interface():
    strange = {"host": "evil.example:9000", "origin": "http://evil.example:9000"}
    pages = Pages(MadeUp(), write=True)
    answer = pages.answer(Request("POST", "/drain", strange), on_loopback=False)
    assert isinstance(answer, Answer)
    assert answer.status == 403


def test_a_browser_gets_the_page_and_all_that_it_loads_from_here():
    status, text = ask(MadeUp(), "/", accept="text/html,*/*;q=0.8")
    assert status == 200
    files = re.findall(r'(?:src|href)="([\w.]+\.(?:js|css))"', text)
    assert len(files) == 4
    for name in files:
        assert ask(MadeUp(), f"/{name}", accept="text/html")[0] == 200, name
    assert "//" not in text.replace("<!doctype", "")
    assert "Leon Sorokin" in ask(MadeUp(), "/uPlot.LICENSE")[1]
    answer = Pages(MadeUp()).answer(Request("GET", "/", {"accept": "text/html"}), on_loopback=True)
    assert isinstance(answer, Answer)
    # No frame of another page, in which its buttons could be pressed unseen.
    assert "frame-ancestors 'none'" in dict(answer.headers)["Content-Security-Policy"]


def test_another_site_can_not_take_the_few_seats():
    assert ask(MadeUp(), "/events", sec_fetch_site="cross-site")[0] == 403


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("sort=x", "sort"), ("order=up", "order"), ("most=501", "most"), ("most=-1", "most"),
        ("first=x", "first"), ("filter=" + 101 * "x", "filter"), ("since=x", "since"),
        ("since=nan", "since"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(query, wrong):
    status, said = ask(MadeUp(), f"/live?{query}")
    assert (status, said.startswith(f"{wrong}: expected")) == (400, True)


@pytest.mark.parametrize(
    ("host", "on_loopback", "status"),
    [
        ("localhost:9000", True, 200),
        ("[::1]:9000", True, 200),
        ("rebound.example", True, 403),
        ("[", True, 403),
        ("pod.example:9000", False, 200),
    ],
)
def test_a_name_that_was_made_to_point_here_is_refused(host, on_loopback, status):
    request = Request("GET", "/connections", {"host": host})
    answer = Pages(MadeUp()).answer(request, on_loopback=on_loopback)
    assert isinstance(answer, Answer)
    assert answer.status == status


@given(
    st.sampled_from(["GET", "HEAD", "POST", "X"]),
    st.one_of(st.text(), st.text().map(lambda text: "/connections?" + text)),
    st.dictionaries(st.sampled_from(["host", "origin", "accept"]), st.text()),
    st.booleans(),
)
def test_any_request_has_an_answer(method, target, headers, on_loopback):
    answer = Pages(MadeUp()).answer(Request(method, target, headers), on_loopback=on_loopback)
    assert isinstance(answer, Answer)
    assert answer.status in (200, 400, 403, 404, 405)


# -- the probe ----------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@every_concurrent_engine
def test_a_held_up_engine_is_overdue_and_dead_only_after_long(concurrent_engine):
    clock = Clock()

    async def main() -> None:
        server = anysock.Server("echo", bind="127.0.0.1:0")
        figures = ServerFigures(server, clock)
        assert figures.ready() == "not listening yet"
        async with server:
            assert figures.ready() is None
            await anysock.sleep(0)
            await anysock.sleep(0.02)
            assert figures.snapshot()["lag"] == 0
            clock.now += 5.25  # and the engine has not yet moved
            assert figures.snapshot()["lag"] == pytest.approx(5)
            assert figures.snapshot()["stuck"] == 0
            clock.now += STUCK_SECONDS
            assert figures.snapshot()["stuck"] == 1
            await anysock.sleep(0.4)
            late = figures.snapshot()
            assert (late["stuck"], late["highest_lag"]) == (0, pytest.approx(5 + STUCK_SECONDS))
            figures.pause()
            assert figures.ready() == "accepting is paused"
        assert figures.ready() == "draining"
        figures.resume()  # there is nothing left to resume, and nobody minds

    anysock.run(main, engine=concurrent_engine)


def test_the_highest_lag_is_kept_for_a_while():
    clock = Clock()
    probe = LoopLagProbe(clock)
    probe._keep(0.7)
    for _ in range(3):
        clock.now += KEEP_SECONDS / 4
        probe._keep(0.1)
        assert probe.highest == 0.7
    for _ in range(8):
        clock.now += KEEP_SECONDS / 4
        probe._keep(0.1)
    assert probe.highest == 0.1


# -- where it runs ------------------------------------------------------------------------------


@every_concurrent_engine
def test_who_has_an_engine_that_nothing_blocks_needs_no_thread(concurrent_engine):
    async def main() -> bytes:
        server = anysock.Server("echo", bind="127.0.0.1:0")
        admin = admin_server(Address("127.0.0.1", 0), ServerFigures(server))
        async with server, admin, await anysock.connect(admin.addresses[0]) as client:
            await client.send_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b"".join([chunk async for chunk in client])

    answer = anysock.run(main, engine=concurrent_engine)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nready\n")
