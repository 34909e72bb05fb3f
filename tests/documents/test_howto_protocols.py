"""The handlers that the page "Protocols" shows: each is run, as it is printed."""

from __future__ import annotations

import builtins
import collections
import os
import re
import ssl
import types
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import anysock
import anysock.testing
from anysock.net.certificates import client_context
from anysock.net.tls_session import TlsSession

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "protocols.md"


def shown() -> types.SimpleNamespace:
    """What the blocks of the page define, each block run on its own."""
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        names: dict[str, Any] = {"__name__": "example"}
        exec(compile(block, str(PAGE), "exec"), names)
        own = {
            name: value
            for name, value in names.items()
            if isinstance(value, types.FunctionType) and value.__module__ == "example"
        }
        # The last block repeats the first handler.
        found = own | found
    return types.SimpleNamespace(**found)


page = shown()


def test_every_function_of_the_page_is_run_here():
    run_here = set(re.findall(r"\bpage\.(\w+)", Path(__file__).read_text()))
    called_by_others = {"report", "talk"}
    assert set(vars(page)) == run_here | called_by_others


def test_what_the_text_names_is_there():
    text = re.sub(r"```python\n.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    named = set(re.findall(r"`(?:await |async with )?([a-z]+(?:\.[a-z_]+)+)", text))
    # As `recv_line()` and `EndOfStream`, with nothing before it.
    alone = set(re.findall(r"`([a-z_]+)\(", text)) | set(re.findall(r"`([A-Z]\w+[a-z])`", text))

    async def a_connection() -> anysock.Connection:
        return anysock.testing.connection_pair()[0]

    owners: dict[str, Any] = {"anysock": anysock, "server": anysock.Server}
    owners["connection"] = anysock.run(a_connection)
    assert len(named) > 10
    assert len(alone) > 15
    for name in named:
        owner, first, *rest = name.split(".")
        if owner in owners:
            assert hasattr(owners[owner], first), name
            assert first == "tls" or not rest or name == "connection.log.info", name
            assert not rest or first != "tls" or hasattr(TlsSession, rest[0]), name
    for name in alone - {"drain"}:  # asyncio's
        places = [*owners.values(), anysock.testing, builtins]
        assert any(hasattr(place, name) for place in places), name


def test_a_line_of_a_batch_takes_a_quarter_as_in_the_tables():
    tables = (PAGE.parents[1] / "performance.md").read_text()
    for work in ("lines", "frames"):
        [header] = re.findall(rf"^\| server \|.*\b{work}, 16 in flight.*$", tables, re.MULTILINE)
        column = [cell.strip() for cell in header.split("|")].index(f"{work}, 16 in flight")
        microseconds = {}
        for row in tables[tables.index(header) :].split("\n\n")[0].splitlines()[2:]:
            cells = row.split("|")
            microseconds[cells[1].strip(" *")] = float(cells[column].split("·")[1])
        one_by_one, batches = (
            microseconds["anysock selector"], microseconds["anysock selector, batches"]
        )  # fmt: skip
        assert 0.15 < batches / one_by_one < 0.35


def serve(
    handler: Any,
    client: Callable[[anysock.Connection, anysock.Server], Coroutine[Any, Any, Any]],
    engine: str,
    **options: Any,
) -> Any:
    """What `client` returns, which gets a connection to a server with this handler, and the
    server."""

    async def main() -> Any:
        options.setdefault("bind", "127.0.0.1:0")
        async with anysock.Server(handler, **options) as server, anysock.timeout(10):
            async with await anysock.connect(server.addresses[0]) as connection:
                return await client(connection, server)

    return anysock.run(main, engine=engine)


def ask(handler: Any, data: bytes, engine: str, **options: Any) -> bytes:
    """All that comes back for `data`, when that and the end of the stream are sent."""

    async def client(connection: anysock.Connection, _: anysock.Server) -> bytes:
        await connection.send_all(data)
        await connection.send_eof()
        return b"".join([chunk async for chunk in connection])

    answer: bytes = serve(handler, client, engine, **options)
    return answer


@pytest.mark.parametrize(
    ("handler", "data", "answer"),
    [
        (page.shout, b"one\ntwo\r\nthr", b"ONE\nTWO\r\nTHR"),
        (page.shout, b"one\n" + b"x" * 1001, b"ONE\n"),
        (page.reverse, b"\0\3abc\0\0\0\1d", b"\0\3cba\0\0\0\1d"),
        (page.reverse, b"\0\3abc\4\0", b"\0\3cba"),
        (page.netstrings, b"5:hello,0:,3:a:,,1:x.1:y,", b"5:hello,0:,3:a:,,"),
        (page.netstrings, b"1:x,-1:", b"1:x,"),
        (page.netstrings, b"1:x,12345:", b"1:x,"),
        (page.told, b"one\r\ncut of", b"one\r\n"),
        (page.told, b"one\r\n" + b"x" * 81, b"one\r\nERR a line has at most 80 bytes\r\n"),
        (page.batches, b"one\ntwo\r\n" * 300 + b"x", b"ONE\nTWO\r\n" * 300 + b"X"),
        (page.framed_batches, b"\0\2ab\0\0" * 300, b"\0\2ba\0\0" * 300),
        (page.collected, b"one\ntwo\r\n" * 101 + b"x", b"ONE\nTWO\r\n" * 101 + b"X"),
        (page.impatient, b"one\ntwo\n", b"one\n"),
        (page.subscriber, b"one\ntwo\n", b"one\ntwo\n"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_it_answers(handler, data, answer, concurrent_engine, caplog):
    assert ask(handler, data, concurrent_engine) == answer
    # What a client sends is no failure: one line says what was too long, without a traceback.
    warnings = [record for record in caplog.records if record.levelname != "INFO"]
    assert len(warnings) <= 1
    assert not any(record.exc_info or record.levelname == "ERROR" for record in warnings)


def test_a_client_that_does_not_read_stops_the_handler(concurrent_engine):
    async def client(connection: anysock.Connection, server: anysock.Server) -> list[bytes]:
        [one] = await until(lambda: server.connections)
        await until(lambda: one.stream.sending and one.bytes_sent > 0)
        sent = one.bytes_sent
        first = [await connection.recv_line() for _ in range(3)]
        # 7 MB are to come, of which the buffers of the system hold some.
        assert sent < 3_000_000
        assert one.held < 100
        connection.abort()
        return first

    first = serve(page.countdown, client, concurrent_engine, socket_buffer=8192)
    assert first == [b"1000000\r\n", b"999999\r\n", b"999998\r\n"]


async def until(condition: Callable[[], Any]) -> Any:
    while not (value := condition()):
        await anysock.sleep(0.002)
    return value


def test_starttls(concurrent_engine, pki):
    trusted = client_context(str(pki.ca))

    async def client(_: anysock.Connection, server: anysock.Server) -> object:
        address = server.addresses[0].replace("127.0.0.1", "localhost")
        return await page.ask_by_tls(address, trusted)

    tls = {"tls_cert": str(pki.server.cert), "tls_key": str(pki.server.key)}
    assert serve(page.with_starttls, client, concurrent_engine, **tls) == b"HELLO\r\n"


def test_a_client_that_trusts_nobody_does_not_get_through(pki):
    async def client(_: anysock.Connection, server: anysock.Server) -> None:
        with pytest.raises(anysock.TlsError):
            await page.ask_by_tls(server.addresses[0], ssl.create_default_context())

    tls = {"tls_cert": str(pki.server.cert), "tls_key": str(pki.server.key)}
    serve(page.with_starttls, client, "selector", **tls)


def test_a_server_without_tls_is_told_so(concurrent_engine):
    async def client(_: anysock.Connection, server: anysock.Server) -> None:
        with pytest.raises(ConnectionError, match="does not speak TLS"):
            await page.ask_by_tls(server.addresses[0])

    serve(page.shout, client, concurrent_engine)


def test_what_came_in_plain_text_behind_starttls_is_refused(concurrent_engine, pki, caplog):
    tls = {"tls_cert": str(pki.server.cert), "tls_key": str(pki.server.key)}
    said = b"hello\r\nSTARTTLS\r\nDELETE ALL\r\n"
    answer = ask(page.with_starttls, said, concurrent_engine, **tls)
    assert answer == b"HELLO\r\n220 go ahead\r\n"
    assert not [record for record in caplog.records if record.exc_info]


def test_what_a_batch_has_taken_can_not_be_refused(concurrent_engine):
    """As the page says: so its handler has to look."""

    async def main() -> tuple[list[bytes], int]:
        client, server = anysock.testing.connection_pair()
        async with client, server:
            await client.send_all(b"STARTTLS\r\nDELETE ALL\r\n")
            return await server.recv_lines(), server.buffered

    found = anysock.run(main, engine=concurrent_engine)
    assert found == ([b"STARTTLS\r\n", b"DELETE ALL\r\n"], 0)


def test_a_file(concurrent_engine, tmp_path, monkeypatch):
    file = tmp_path / "motd.txt"
    file.write_bytes(b"message of the day\n" * 100_000)
    monkeypatch.setitem(page.download.__globals__, "FILE", str(file))
    assert ask(page.download, b"", concurrent_engine) == file.read_bytes()


def test_a_broadcast(concurrent_engine):
    async def client(anna: anysock.Connection, server: anysock.Server) -> list[bytes]:
        await anna.send_all(b"WHO\n")
        assert await anna.recv_line() == b"1 are here\n"
        async with await anysock.connect(server.addresses[0]) as bob:
            await bob.send_all(b"WHO\n")
            assert await bob.recv_line() == b"2 are here\n"
            await bob.send_all(b"hello\nWHO\n")
            await anna.send_all(b"hello yourself\n")
            return [await anna.recv_line(), await bob.recv_line(), await bob.recv_line()]

    said = serve(page.chat, client, concurrent_engine)
    assert said[0] == b"hello\n"
    assert sorted(said[1:]) == [b"2 are here\n", b"hello yourself\n"]


async def ask_by_proxy(target: str, monkeypatch: pytest.MonkeyPatch, *, said: bytes) -> bytes:
    monkeypatch.setitem(page.proxy.__globals__, "TARGET", target)
    async with anysock.Server(page.proxy, bind="127.0.0.1:0") as server:
        async with await anysock.connect(server.addresses[0]) as connection:
            await connection.send_all(said)
            await connection.send_eof()
            return b"".join([chunk async for chunk in connection])


def test_a_proxy(concurrent_engine, monkeypatch):
    async def main() -> bytes:
        async with anysock.Server(page.shout, bind="127.0.0.1:0") as target:
            return await ask_by_proxy(target.addresses[0], monkeypatch, said=b"hello\n")

    assert anysock.run(main, engine=concurrent_engine) == b"HELLO\n"


def test_a_proxy_without_a_target(concurrent_engine, monkeypatch):
    async def main() -> bytes:
        # Nothing is said: the handler ends without reading, and who speaks to a connection that
        # has been closed meanwhile is answered by a reset, which throws the answer away.
        return await ask_by_proxy("127.0.0.1:1", monkeypatch, said=b"")

    assert anysock.run(main, engine=concurrent_engine) == b"ERR try again later\r\n"


def test_who_waits_for_too_long(concurrent_engine):
    async def client(connection: anysock.Connection, _: anysock.Server) -> bytes:
        return await connection.recv_line()

    def soon(seconds: float) -> Any:
        assert seconds == 5
        return anysock.move_on_after(0.05)

    names = page.impatient.__globals__ | {
        "anysock": types.SimpleNamespace(move_on_after=soon, Connection=anysock.Connection)
    }
    hurried = types.FunctionType(page.impatient.__code__, names)
    assert serve(hurried, client, concurrent_engine) == b"too late\r\n"


def test_the_process_at_the_other_end_of_a_unix_socket(concurrent_engine, tmp_path):
    address = f"unix://{tmp_path}/socket"
    answer = ask(page.for_my_processes, b"", concurrent_engine, bind=address)
    assert answer == b"hello, process %d\r\n" % os.getpid()
    assert ask(page.for_my_processes, b"", concurrent_engine) == b""


def test_the_lifespan_is_around_all_and_a_handler_may_end_the_server(concurrent_engine, capsys):
    counts: list[collections.Counter[bytes]] = []

    async def client(connection: anysock.Connection, server: anysock.Server) -> bytes:
        counts.append(server.state)
        await connection.send_all(b"apple\npear\napple\nEND\n")
        rest = await connection.recv()
        await until(lambda: server.ending)
        return rest

    assert serve(page.count, client, concurrent_engine, lifespan=page.lifespan) == b""
    assert counts == [{b"apple\n": 2, b"pear\n": 1}]
    assert capsys.readouterr().out == "3 words\n"


def test_a_handler_that_sends_unasked_notices_the_drain(concurrent_engine):
    async def client(connection: anysock.Connection, server: anysock.Server) -> list[bytes]:
        first = await connection.recv_line()
        server.request_end()
        return [first, *[line async for line in connection.lines()]]

    lines = serve(page.ticker, client, concurrent_engine)
    assert lines[0] == b"tick\r\n"
    assert lines[-1] == b"bye\r\n"


def test_the_test_that_is_shown_passes():
    page.test_shout()
