"""Contract 4: that one peer is gone is a normal end: one debug line, nobody else notices."""

from __future__ import annotations

from tests.harness import receive_exactly, reset, send_until_stuck

GONE = r"has ended: lost \(.*(reset|Broken pipe)"


def test_a_reset_is_one_debug_line_and_others_do_not_notice(engine, start_server):
    server = start_server("echo", "--log-level", "debug", engine=engine)
    bystander = None if engine == "blocking" else server.connect()
    for number in range(10):
        client = server.connect()
        client.sendall(b"hello")
        receive_exactly(client, 5)
        reset(client)
        if bystander is not None:
            bystander.sendall(b"%03d" % number)
            assert receive_exactly(bystander, 3) == b"%03d" % number
    server.wait_for(GONE, times=10)
    # Under back pressure.
    client = server.connect()
    send_until_stuck(client, 10_000_000, quiet=0.2)
    reset(client)
    server.wait_for(GONE, times=11)
    if bystander is not None:
        bystander.close()
    assert server.ask(b"next") == b"next"
    server.wait_for("has ended: done", times=1 if bystander is None else 2)
    assert len(server.matching("has ended")) == (12 if bystander is None else 13)


def test_a_health_check_is_one_debug_line(engine, start_server):
    """A connection that closes before its first byte is no news, nor is one that resets."""
    server = start_server("echo", "--log-level", "debug", engine=engine)
    for _ in range(5):
        server.connect().close()
    server.wait_for("has ended: closed before its first byte", times=5)
    for _ in range(5):
        reset(server.connect())
    assert server.ask(b"hello") == b"hello"
    assert not server.matching("error|warning")


def test_a_reset_while_the_server_sends_is_a_normal_end(engine, start_server):
    server = start_server("chargen", "--log-level", "debug", engine=engine)
    for _ in range(10):
        client = server.connect()
        receive_exactly(client, 10_000)
        reset(client)
    server.wait_for(GONE, times=10)


TWO_TASKS = """
import anysock

async def both(connection):
    async with anysock.task_group() as group:
        group.spawn(send(connection))
        async for data in connection:
            pass

async def send(connection):
    while True:
        await connection.send_all(b"x" * 65536)
"""


def test_a_reset_that_several_tasks_meet_is_a_normal_end(concurrent_engine, start_server, tmp_path):
    (tmp_path / "tasks.py").write_text(TWO_TASKS)
    server = start_server(
        "tasks:both", "--log-level", "debug", engine=concurrent_engine, cwd=tmp_path
    )
    for _ in range(5):
        client = server.connect()
        receive_exactly(client, 200_000)
        reset(client)
    server.wait_for(r"has ended: (lost|aborted)", times=5)
    assert not server.matching("failed")
