"""Tests of the chat, with what Anysock has for tests: python -m pytest test_chat.py"""

import pytest
from chat import chat

import anysock
from anysock.testing import connection_pair


# A server on a port of its own, on a thread of its own; once for each engine.
def test_who_says_nothing_is_asked_for_a_name(anysock_server):
    server = anysock_server(chat)
    assert server.ask(b"") == b"Your name? "


# The test itself is async, and runs under the engine that the server runs under.
@pytest.mark.anysock
@pytest.mark.anysock_engines(concurrent=True)
async def test_what_one_says_the_other_hears(anysock_server):
    server = anysock_server(chat, max_connections=2)
    async with (
        anysock.timeout(10),
        await anysock.connect(server.address) as anna,
        await anysock.connect(server.address) as bob,
    ):
        await anna.send_all(b"Anna\n")
        assert await anna.recv_line() == b"Your name? * hello Anna\r\n"
        await bob.send_all(b"Bob\nhello\n")
        assert await anna.recv_line() == b"* Bob is here\r\n"
        assert await anna.recv_line() == b"Bob: hello\r\n"


# Two ends in memory: no server, no socket, and the same each time.
@pytest.mark.anysock
@pytest.mark.anysock_engines(concurrent=True)
async def test_a_name_has_a_limit():
    client, server = connection_pair()
    async with anysock.timeout(10), anysock.task_group() as group:
        group.spawn(chat(server))
        await client.send_all(b"x" * 100 + b"\n")
        await client.send_eof()
        assert await client.recv_line() == b"Your name? * hello " + b"x" * 30 + b"\r\n"
