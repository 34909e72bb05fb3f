"""``anysock load -i``: what it prints as it goes on, and the same in its reports."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter

import pytest

from tests.bad_servers import bad_server, echo
from tests.commands.running import anysock

SHORT = ("--duration", "400ms", "--warmup", "50ms", "-i", "100ms")
LINE = re.compile(r" *(\d+\.\d\d)-(\d+\.\d\d) s +([\d,]+)/s .*")


@pytest.mark.parametrize("more", [(), ("--rate", "500"), ("--processes", "2")])
def test_a_line_for_each_interval_and_the_same_as_json(start_server, tmp_path, more):
    file = tmp_path / "report.json"
    done = anysock("load", f":{start_server().port}", "-c", "4", *SHORT, *more, "--json", str(file))
    report = json.loads(file.read_text())
    intervals = report["intervals"]
    header, *lines = done.stdout.splitlines()[: len(intervals) + 1]
    assert header.split() == ["interval", "messages", "bytes", "errors", "p50", "p99"]
    assert all(LINE.fullmatch(line) for line in lines), done.stdout
    assert sum(each["messages"] for each in intervals) == report["messages"] > 0
    if "--processes" not in more:  # each has a clock of its own
        assert all(one["end"] == two["begin"] for one, two in itertools.pairwise(intervals))
    assert intervals[0]["begin"] == 0
    assert intervals[-1]["end"] >= 0.4


def test_errors_are_told_in_the_interval_in_which_they_happen():
    def reset_the_third(client):
        """Whatever follows the second message is answered by an end of the connection."""
        for _ in range(2):
            client.sendall(client.recv(65536))

    # Ten messages a second, so that the third is due after 200 ms.
    with bad_server(reset_the_third) as port:
        done = anysock(
            "load", f":{port}", "-c", "1", "--rate", "10", "--duration", "500ms", "--warmup", "0",
            "-i", "100ms", "--timeout", "2s", "--json", "-", code=1,
        )  # fmt: skip
    report = json.loads(done.stdout)
    assert report["errors"]
    told = sum((Counter(each["errors"]) for each in report["intervals"]), Counter())
    assert told == report["errors"]
    for kind, count in told.items():
        assert f"{count} × {kind}" in done.stderr


def test_a_search_prints_the_intervals_of_each_step():
    with bad_server(echo) as port:
        done = anysock("load", f":{port}", "-c", "1", "--find-rate", "p50<2s", *SHORT[:-1], "200ms")
    assert done.stdout.count("interval") >= 2
    assert "passed" in done.stdout
