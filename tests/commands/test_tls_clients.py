"""talk, ping and load over TLS, and over Unix sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.running import anysock
from tests.pki import Pki


@pytest.fixture
def address(start_server, pki) -> str:
    server = start_server(
        *("echo", "--tls-cert", str(pki.server.cert), "--tls-key", str(pki.server.key)),
        bind="tls://127.0.0.1:0",
    )
    server.expected_errors = [
        "the client does not trust our certificate",
        "like this were not told: closed the connection",
    ]
    return f"tls://127.0.0.1:{server.port}"


@pytest.fixture
def mutual_address(start_server, pki) -> str:
    server = start_server(
        *("echo", "--tls-cert", str(pki.server.both), "--tls-client-ca", str(pki.ca)),
        bind="tls://127.0.0.1:0",
    )
    server.expected_errors = ["handshake failed"]
    return f"tls://127.0.0.1:{server.port}"


@pytest.fixture
def unix_address(start_server, tmp_path) -> str:
    start_server("echo", "--bind", f"unix://{tmp_path}/echo")
    return f"unix://{tmp_path}/echo"


def trust(pki: Pki) -> tuple[str, str]:
    return "--tls-ca", str(pki.ca)


def outcome(*arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(anysock(*arguments, code=code).stdout)
    return found


def test_talk(address, pki):
    done = anysock("talk", address, *trust(pki), typed="hello\n")
    assert done.stdout == "hello\n"
    assert "Connection closed by foreign host." in done.stderr


def test_ping(address, pki):
    found = outcome("ping", address, *trust(pki), "-c", "3", "-i", "10ms", "--json")
    assert (found["sent"], found["received"], found["bad"]) == (3, 3, {})
    found = outcome(*("ping", address, *trust(pki), "-c", "3", "-i", "10ms", "--connect", "--json"))
    assert found["received"] == 3
    assert found["connect"]["min"] > 0


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--depth", "4"),
        ("--size", "300KiB"),
        ("--lines",),
        ("--rate", "1000"),
        ("--churn", "3"),
    ],
    ids=lambda more: more[0] if more else "plain",
)
def test_load(address, pki, more):
    found = outcome(
        *("load", address, *trust(pki), "-q", "-c", "4", "--messages", "60", "--json", "-", *more)
    )
    assert found["messages"] == 60
    assert not found["errors"]


def test_load_over_several_processes(address, pki):
    found = outcome(
        *("load", address, *trust(pki), "-q", "-c", "4", "--messages", "60", "--json", "-"),
        *("--processes", "2"),
    )
    assert found["messages"] == 60


@pytest.mark.parametrize("command", ["talk", "ping", "load"])
def test_whom_we_do_not_trust_is_told(address, command, pki, start_server):
    more = {"talk": (), "ping": ("-c", "1"), "load": ("-q", "--messages", "50", "--timeout", "2s")}
    done = anysock(command, address, *more[command], code=1)
    assert "can't trust the server's certificate" in done.stdout + done.stderr
    anysock(command, address, "--insecure", *more[command])


@pytest.mark.parametrize("command", ["talk", "ping"])
def test_a_server_that_wants_a_certificate_gets_it(mutual_address, command, pki):
    more = () if command == "talk" else ("-c", "1")
    ours = ("--tls-cert", str(pki.client.cert), "--tls-key", str(pki.client.key))
    anysock(command, mutual_address, *trust(pki), *ours, *more)


def test_a_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "ca.pem").write_text("hello")
    for command in ("talk", "ping", "load"):
        done = anysock(command, "tls://127.0.0.1:9", "--tls-ca", str(tmp_path / "ca.pem"), code=1)
        assert f"no certificate in {tmp_path}/ca.pem" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_options_of_tls_where_there_is_none(tmp_path):
    for command in ("talk", "ping", "load"):
        done = anysock(command, "127.0.0.1:9", "--insecure", code=2)
        assert "the options of TLS are for tls:// addresses" in done.stderr


def test_unix_sockets(unix_address):
    assert anysock("talk", unix_address, typed="hello\n").stdout == "hello\n"
    found = outcome("ping", unix_address, "-c", "3", "-i", "10ms", "--json")
    assert found["received"] == 3
    found = outcome("load", unix_address, "-q", "-c", "4", "--messages", "60", "--json", "-")
    assert found["messages"] == 60
    assert not found["errors"]


def test_where_nobody_can_connect(tmp_path: Path):
    for command in ("talk", "ping", "load"):
        done = anysock(command, "fd://3", code=2)
        assert "fd:// is for a server, to listen on" in done.stderr
    done = anysock("talk", f"unix://{tmp_path}/nobody", code=1)
    assert done.stderr.splitlines()[-1].startswith("anysock: can't connect to unix://")
