"""``anysock trace``, and the commands that write traces."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from anysock.cli import anysock
from anysock.traces.format import read
from tests.commands.running import anysock as command
from tests.commands.running import refused
from tests.harness import ServerProcess, exchange, wait_until


def called(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(anysock, ["trace", *arguments])
    text = done.output
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        text += str(done.exception)
    return done.exit_code, text


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The trace of a server that has answered a ping, as a process."""
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    server = ServerProcess("echo", "--trace", str(path))
    try:
        with server.connect() as client:
            assert exchange(client, b"hello") == b"hello"
        server.wait_for("done")
        server.check()
    finally:
        server.kill()
    return path


def test_a_server_writes_a_trace_of_what_it_does(traced):
    head, events = read(traced)
    assert (head["of"], head["engine"], head["clock"]) == ("serve", "selector", "monotonic")
    kinds = {event["e"] for event in events}
    assert {"turn", "task", "step", "serves", "accept", "open", "close", "mark"} <= kinds
    assert events[-1]["why"] == "over"
    assert traced.stat().st_mode & 0o777 == 0o600  # it names clients


def test_each_worker_has_a_trace_of_its_own(start_server, tmp_path):
    server = start_server("echo", "--workers", "2", "--trace", str(tmp_path / "t"))
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "both have begun")
    server.check()
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    for each in files:
        assert each.suffix[1:].isdecimal()
        assert read(each)[1][-1]["why"] == "over"


def test_it_is_converted_for_perfetto(traced, tmp_path):
    code, text = called("convert", str(traced), "-o", str(tmp_path / "x.json"))
    assert (code, text) == (0, f"wrote {tmp_path / 'x.json'}\n")
    found = json.loads((tmp_path / "x.json").read_text())["traceEvents"]
    names = {event["args"]["name"] for event in found if event["name"] == "thread_name"}
    assert {"loop", "main", "accept", "server"} <= names
    begins = [event["id"] for event in found if event["ph"] == "b"]
    assert begins == [event["id"] for event in found if event["ph"] == "e"] != []
    assert all(event["dur"] >= 0 for event in found if event["ph"] == "X")


def test_a_page_is_made_beside_it(traced):
    code, text = called("view", str(traced))
    assert (code, text) == (0, f"wrote {traced}.html\n")
    page = traced.with_name("t.jsonl.html").read_text()
    assert "http" not in page.partition('id="data">')[0]  # nothing is fetched


def test_standard_output_can_be_asked_for(traced):
    code, text = called("convert", str(traced), "-o", "-")
    assert code == 0
    assert json.loads(text)["displayTimeUnit"] == "ms"


@pytest.mark.parametrize("what", ["view", "convert"])
def test_what_is_no_trace_is_one_line(what):
    assert refused("trace", what, __file__) == f"{__file__}:1: not a line of JSON"


def test_a_trace_that_can_not_be_written_is_one_line(tmp_path):
    path = tmp_path / "no" / "t"
    done = command("serve", "--port", "0", "--trace", str(path), code=1)
    wanted = f"anysock: can't write the trace {path}: No such file or directory"
    assert done.stderr.splitlines()[-1] == wanted


def test_a_history_that_fails_is_written_with_its_first_difference(tmp_path, monkeypatch):
    (tmp_path / "once.py").write_text(
        "async def once(connection):\n    await connection.send_all(await connection.recv())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    arguments = ["sim", "once:once", "--check", "echo", "-c", "2", "-n", "50", "-q"]
    arguments += ["--confirm", "none", "--trace-file", "t.jsonl"]
    done = CliRunner().invoke(anysock, arguments)
    assert done.exit_code == 1, done.output
    assert "see it: anysock trace view t.jsonl" in done.output
    head, events = read(tmp_path / "t.jsonl")
    assert (head["of"], head["clock"], head["began"]) == ("sim", "virtual", None)
    kinds = [event["e"] for event in events]
    assert kinds.count("finding") == kinds.count("differs") == 1
    assert kinds.index("differs") < kinds.index("finding")
    assert {"segment", "mark"} <= set(kinds)
    [replay] = (tmp_path / ".sim").iterdir()
    again = ["sim", "--replay", str(replay), "--trace-file", "again.jsonl"]
    assert CliRunner().invoke(anysock, again).exit_code == 1
    assert read(tmp_path / "again.jsonl")[1] == events
