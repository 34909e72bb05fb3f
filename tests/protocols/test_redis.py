"""The example of Redis, with Redis' own clients, and with what those never send."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import CONCURRENT_ENGINES, PATIENCE, receive_all, receive_exactly, wait_until
from tests.protocols.conftest import program, run_client, sends_for


@pytest.fixture(params=CONCURRENT_ENGINES, scope="module")
def server(request, serving):
    with serving("redis.py", request.param) as server:
        yield server


def test_redis_cli(server):
    script = (
        "set greeting hello\nget greeting\nincr n\nincrby n -3\nget nothing\nincr greeting\nfoo\n"
        "set greeting other nx\nset greeting other xx px 100000\nttl greeting\nttl n\nttl x\n"
        "append greeting !\nmset a 1 b 2\nmget a x b\nexists a b x a\ndel a b x\nexpire x 5\n"
        "echo hi\nselect 0\nselect 1\nset a b ex 0\n"
    )
    shown = run_client("redis-cli", "-p", str(server.port), say=script.encode())
    answers = [line for line in shown.splitlines() if line]
    assert answers == [
        *("OK", "hello", "1", "-2", "ERR value is not an integer or out of range"),
        "ERR unknown command 'FOO', or wrong number of arguments for it",
        *("OK", "100", "-1", "-2", "6", "OK", "1", "2", "3", "2", "0", "hi", "OK"),
        "ERR unknown command 'SELECT', or wrong number of arguments for it",
        "ERR value is not an integer or out of range",
    ]
    large = "x" * 1_000_000
    shown = run_client("redis-cli", "-p", str(server.port), "-x", "set", "l", say=large.encode())
    assert shown == "OK\n"
    assert run_client("redis-cli", "-3", "-p", str(server.port), "get", "l") == large + "\n"


def test_redis_benchmark(server):
    what = ("-P", "16", "-n", "400", "-c", "8", "-t", "set,get,incr,mset", "--csv")
    shown = run_client("redis-benchmark", "-p", str(server.port), *what)
    assert re.findall(r'^"(\w+)[^"]*","[\d.]+"', shown, re.MULTILINE) == [
        *("SET", "GET", "INCR", "MSET")
    ]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(server, protocol):
    with redis.Redis(port=server.port, protocol=protocol, socket_timeout=PATIENCE) as client:
        assert client.set("key", "value", ex=100)
        assert client.get("key") == b"value"
        assert 99 <= client.ttl("key") <= 100
        assert client.set("key", "other", nx=True) is None
        assert client.get("missing") is None
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("key")
        assert client.mset({"a": 1, "b": 2})
        assert client.mget("a", "x", "b") == [b"1", None, b"2"]
        assert client.append("a", "0") == 2
        assert client.set("short", "lived", px=1)
        wait_until(lambda: not client.exists("short"), "it has expired")
        assert client.ttl("short") == -2
        # What is pipelined is answered in order, however long the answers.
        with client.pipeline(transaction=False) as pipeline:
            for number in range(300):
                pipeline.set("number", str(number) * 3000).get("number").incr(f"count{protocol}")
            answers = pipeline.execute()
        assert answers[::3] == [True] * 300
        assert answers[1::3] == [str(number).encode() * 3000 for number in range(300)]
        assert answers[2::3] == list(range(1, 301))
        assert client.delete("a", "b", "key", "x", "number", f"count{protocol}") == 5
        assert client.info()["redis_version"] == "7.0.0"


def test_redis_py_on_asyncio(server):
    async def add(client):
        return [await client.incr("together") for _ in range(50)][-1]

    async def talk() -> None:
        async with contextlib.AsyncExitStack() as stack:
            made = [redis.asyncio.Redis(port=server.port) for _ in range(4)]
            clients = [await stack.enter_async_context(client) for client in made]
            # What one adds, another's may not overwrite, under `threads` neither.
            assert max(await asyncio.gather(*map(add, clients))) == 200
            assert await clients[0].delete("together") == 1

    asyncio.run(talk())


def test_what_is_typed(server):
    assert server.ask(b"PING\r\n\r\nping  you\nSET a") == b"+PONG\r\n$3\r\nyou\r\n"
    with server.connect() as client:
        # The answer does not wait for the rest of a long command behind it.
        client.sendall(b"PING\r\n*2\r\n$4\r\nECHO\r\n$3\r\nab")
        assert receive_exactly(client, 7) == b"+PONG\r\n"
        client.sendall(b"c\r\n")
        assert receive_exactly(client, 9) == b"$3\r\nabc\r\n"


@pytest.mark.parametrize(
    "what",
    [
        b"*x\r\n",
        b"*4097\r\n",
        b"*-1\r\n",
        b"*1\r\n:4\r\n",
        b"*1\r\n$8388609\r\n",
        b"*2\r\n$8388608\r\n" + b"x" * 8_388_608 + b"\r\n$1\r\n",
        b"*1\r\n$" + b"1" * 100,
        b"x" * 70_000,
    ],
    ids=range(8),
)
def test_what_is_not_resp_is_answered_and_ends_the_connection(server, what):
    with server.connect() as client:
        client.sendall(b"PING\r\n" + what)
        assert re.fullmatch(rb"\+PONG\r\n-ERR Protocol error: [^\r\n]+\r\n", receive_all(client))


def test_a_batch_is_answered_by_one_send():
    handler = program("redis.py").handler
    assert sends_for(handler, b"PING\r\n" * 10, answers=70) == 1


def test_the_memory_is_bounded():
    module = program("redis.py")
    store = module.Store()
    most = module.MAX_MEMORY
    store.put(b"key", bytes(most - 3))
    with pytest.raises(module.Refused, match="OOM"):
        store.put(b"k", b"")
    store.put(b"key", b"small")
    store.put(b"k", b"")
    assert store.delete(b"key")
    assert store.delete(b"k")
    assert store.used == 0


def test_the_memory_of_an_answer_is_bounded():
    """A short request may name a large value again and again."""
    module = program("redis.py")
    store = module.Store()
    client = module.Client(store, None)
    store.put(b"key", bytes(module.MAX_COMMAND // 2))
    assert client.answer([b"MGET", b"key", b"none", b"key"]) == [
        bytes(4 << 20),
        None,
        bytes(4 << 20),
    ]
    refused = client.answer([b"MGET", b"key", b"key", b"key"])
    assert isinstance(refused, module.Refused)
    assert str(refused) == "ERR an answer has at most 8388608 bytes"


ANSWERS = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=9),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.binary(max_size=3), each),
    max_leaves=9,
)


encode = program("redis.py").encode


@given(ANSWERS)
def test_answers_are_read_as_they_were_meant(answer):
    for resp in (2, 3):
        decoded, rest = decode(encode(answer, resp))
        assert rest == b""
        assert decoded == (answer if resp == 3 else flat(answer))


def flat(answer):
    if isinstance(answer, dict):
        answer = [each for pair in answer.items() for each in pair]
    return [flat(each) for each in answer] if isinstance(answer, list) else answer


def decode(data: bytes):
    line, _, rest = data.partition(b"\r\n")
    kind, word = line[:1], line[1:]
    if kind == b"_" or line == b"$-1":
        return None, rest
    if kind == b":":
        return int(word), rest
    if kind == b"$":
        return rest[: int(word)], rest[int(word) + 2 :]
    items = []
    for _ in range(int(word) * (2 if kind == b"%" else 1)):
        item, rest = decode(rest)
        items.append(item)
    if kind == b"*":
        return items, rest
    assert kind == b"%"
    return dict(zip(items[::2], items[1::2], strict=True)), rest
