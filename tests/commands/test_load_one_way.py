"""``anysock load --mode``: throughput one way, to a server that takes everything, and from one that
sends without end."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests import bad_servers
from tests.bad_servers import bad_server
from tests.commands.running import anysock, refused

SHORT = ("-c", "2", "--duration", "300ms", "--warmup", "50ms", "-i", "100ms")


def told(*arguments: str, code: int = 0) -> Any:
    return json.loads(anysock("load", *arguments, "--json", "-", code=code).stdout)


@pytest.mark.parametrize(
    ("mode", "handler", "flows"),
    [
        ("sink", "discard", ["sent"]),
        ("source", "chargen", ["received"]),
        ("both", "chargen", ["sent", "received"]),
    ],
)
def test_data_flow_the_way_that_was_asked_for(start_server, mode, handler, flows):
    report = told(f":{start_server(handler).port}", "--mode", mode, *SHORT)
    assert report["errors"] == {}
    assert report["connections_opened"] == 2
    for name in ("sent", "received"):
        assert (report[f"bytes_{name}"] > 0) == (name in flows)
        assert (f"{name}_a_second" in report) == (name in flows)
    for each in report["intervals"]:
        assert [name for name in ("sent", "received") if f"{name}_a_second" in each] == flows
    assert report["intervals"][0]["begin"] == 0
    assert report["intervals"][-1]["end"] >= report["seconds"]


def test_what_was_sent_has_arrived_and_what_came_was_sent(start_server):
    moved: Counter[str] = Counter()

    def count(client):
        while data := client.recv(65536):
            moved["received"] += len(data)

    with bad_server(count) as port:
        report = told(f":{port}", "--mode", "sink", "-c", "1", *SHORT[2:-2], "-s", "1000")
    # It goes on until it is dismissed.
    assert 0 < report["bytes_sent"] <= moved["received"]
    done = anysock("load", f":{start_server('discard').port}", "--mode", "sink", *SHORT)
    assert "one way: data to the server" in done.stdout
    assert "ns a byte" in done.stdout
    assert done.stdout.split()[:3] == ["interval", "errors", "sent"]


@pytest.mark.parametrize(
    ("mode", "handle", "kinds"),
    [
        ("sink", bad_servers.echo, {"an answer where none was due"}),
        ("source", bad_servers.silent, {"no data in time"}),
        ("both", bad_servers.close_at_once, {"closed by the server", "reset"}),
    ],
)
def test_what_does_not_flow_is_counted_by_its_kind(mode, handle, kinds):
    with bad_server(handle) as port:
        options = ("-c", "2", "--duration", "1s", "--warmup", "0", "--timeout", "100ms")
        report = told(f":{port}", "--mode", mode, *options, code=1)
    assert report["errors"]
    assert set(report["errors"]) <= kinds


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mode", "sink", "--rate", "5"], "--mode sink has no messages that are answered"),
        (["--mode", "both", "--lines"], "no --lines"),
        (["--mode", "source", "--depth", "2"], "no --depth"),
        (["--mode", "source", "--find-rate", "p99<1ms"], "no latencies"),
        (["--mode", "fast"], "'echo', 'sink', 'source', 'both'"),
        (["-i", "10ms"], "100ms at least"),
        (["-i", "100ms", "--duration", "1h"], "more than 10,000"),
    ],
)
def test_bad_usage(arguments, says):
    assert says in refused("load", ":1", *arguments)


def test_udp_has_no_ways():
    assert "UDP has not" in refused("load", "udp://127.0.0.1:7", "--mode", "sink")
