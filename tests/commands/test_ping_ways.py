"""``anysock ping``: its paces, which are bounded, and the way that its probes take."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from anysock.clients.ping import pinger
from anysock.clients.ping.output import Report
from anysock.clients.ping.plan import Plan
from anysock.errors import AnysockError
from anysock.machine import interfaces
from anysock.net.addresses import Address
from anysock.tasks import connecting
from tests import bad_servers
from tests.bad_servers import bad_server
from tests.commands.running import anysock, refused
from tests.harness import free_port


def told(*arguments: str, code: int = 0) -> Any:
    return json.loads(anysock("ping", *arguments, "--json", code=code).stdout)


@pytest.fixture
def silent() -> Iterator[str]:
    with bad_server(bad_servers.silent) as port:
        yield f":{port}"


def test_a_flood_is_dots_that_their_answers_take_away(start_server):
    address = f":{start_server().port}"
    done = anysock("ping", address, "-f", "-c", "200")
    first, marks, *summary = done.stdout.split("\n")
    assert first.startswith("PING ")
    # A slow answer may come after the next probe.
    assert re.fullmatch(r"(\.|\x08 \x08)+", marks)
    assert marks.count(".") == marks.count("\b \b") == 200
    assert summary[1].startswith("200 sent, 200 received, 0 lost")
    assert anysock("ping", address, "-f", "-c", "5", "-q").stdout.startswith("---")


@pytest.mark.parametrize(("pace", "most"), [("-f", 100), ("-A", 500)])
def test_where_nobody_answers_the_pace_is_bounded(silent, pace, most):
    found = told(silent, pace, "-w", "300ms", code=1)
    assert 1 <= found["sent"] <= found["seconds"] * most + 1
    assert found["received"] == 0


def test_where_nobody_listens_a_flood_is_no_faster():
    address = f":{free_port()}"
    found = told(address, "-f", "-w", "300ms", code=1)
    assert 1 <= found["sent"] <= found["seconds"] * 100 + 1
    marks = anysock("ping", address, "-f", "-c", "3", code=1).stdout.split("\n")[1]
    assert marks == ".\bE" * 3


def test_an_adaptive_pace_goes_on_with_the_answers_and_at_most_so_often(start_server):
    found = told(f":{start_server().port}", "-A", "-c", "50")
    assert found["received"] == 50
    assert 50 <= found["seconds"] * 500 + 1


def test_an_adaptive_pace_does_not_wait_for_what_is_lost():
    def lose_the_third(client):
        for number in range(1, 100):
            if not (data := client.recv(64)):
                return
            if number != 3:
                client.sendall(data)

    with bad_server(lose_the_third) as port:
        found = told(f":{port}", "-A", "-c", "6", "--timeout", "4s", code=1)
    # All that followed were sent, and answered, while the third was waited for.
    assert (found["received"], found["lost"]) == (5, 1)
    assert found["rtt"]["max"] < 4


def test_so_many_wait_for_an_answer_and_no_more(monkeypatch):
    waiting = most = 0

    def sent(report):
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)

    def given_up(report, number):
        nonlocal waiting
        waiting -= 1

    monkeypatch.setattr(pinger, "_MAX_WAITING", 4)
    monkeypatch.setattr(Report, "sent", sent)
    monkeypatch.setattr(Report, "not_answered", given_up)
    with bad_server(bad_servers.silent) as port:
        plan = Plan(Address("127.0.0.1", port), count=10, pace="flood", timeout=0.1)
        pinger.ping(plan, lambda _: None, lambda _: None)
    assert most == 4


def test_any_error_of_ours_costs_the_probe_and_is_one_line(monkeypatch):
    async def fail(*_arguments, **_options):
        raise AnysockError("the stream is no more")

    lines: list[str] = []
    monkeypatch.setattr(connecting, "connect_with", fail)
    plan = Plan(Address("127.0.0.1", 7), count=2, interval=0.0)
    summary = pinger.ping(plan, lines.append, lambda _: None)
    assert summary.errors == {"the stream is no more": 2}
    assert lines[1:3] == [f"the stream is no more: 127.0.0.1:7: seq={n}" for n in (1, 2)]


def test_it_comes_from_the_address_that_was_asked_for(start_server):
    server = start_server()
    anysock("ping", f"localhost:{server.port}", "-4", "-I", "127.0.0.9", "-c", "1")
    server.wait_for(r"a connection from \('127.0.0.9'")


def test_it_comes_from_the_address_of_the_interface_that_was_asked_for(start_server):
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    found = [
        (name, addresses[socket.AF_INET])
        for name in names
        if socket.AF_INET in (addresses := interfaces.interface_addresses(name))
    ]
    if not found:
        pytest.skip("this machine has no interface but that of the loop")
    server = start_server()
    # By itself, it would come from 127.0.0.1.
    name, ours = found[0]
    anysock("ping", f"localhost:{server.port}", "-I", name, "-c", "1")
    server.wait_for(rf"a connection from \('{ours}'")


def test_an_interface_that_has_no_way_there_is_one_line():
    done = anysock("ping", "127.0.0.1:7", "-6", "-I", "lo", "-c", "1", code=1)
    assert done.stdout == ""
    assert done.stderr == (
        "anysock: -I lo: 127.0.0.1:7 can't be reached from there: it has only 127.0.0.1 and ::1\n"
    )


def test_of_an_interface_the_address_is_taken_that_more_than_the_link_reaches(
    tmp_path, monkeypatch
):
    table = tmp_path / "if_inet6"
    link = "fe800000000000000000000000000001 04 40 20 80     eth7\n"
    table.write_text(link + "fd000000000000000000000000000002 04 40 00 82     eth7\n" + link)
    monkeypatch.setattr(interfaces, "_INET6", table)
    assert interfaces.interface_addresses("eth7") == {socket.AF_INET6: "fd00::2"}
    table.write_text(link)
    assert interfaces.interface_addresses("eth7") == {socket.AF_INET6: "fe80::1%eth7"}
    assert interfaces.interface_addresses("lo") == {socket.AF_INET: "127.0.0.1"}


@pytest.mark.parametrize(
    ("way", "address"), [("-6", "127.0.0.1:7"), ("-4", "[::1]:7"), ("-6", "udp://127.0.0.1:7")]
)
def test_the_other_family_is_not_tried(way, address):
    done = anysock("ping", address, way, "-c", "1", code=1)
    family = "IPv6" if way == "-6" else "IPv4"
    assert done.stdout == ""
    assert f"it has no address of {family}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((":7", "-f", "-A"), "one pace"),
        ((":7", "-f", "-i", "1s"), "no --interval"),
        ((":7", "-4", "-6"), "one family"),
        ((":7", "-I", "no-such0"), "such as 192.0.2.7, or one of its interfaces: lo"),
        ((":7", "-4", "-I", "::1"), "the other family"),
        (("udp://127.0.0.1:7", "-I", "127.0.0.1"), "for connections"),
        (("unix:///run/echo", "-6"), "addresses of IP"),
    ],
)
def test_bad_usage(arguments, says):
    assert says in refused("ping", *arguments)
