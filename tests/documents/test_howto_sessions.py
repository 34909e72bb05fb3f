"""The how-to pages for who runs a server: what they show is typed, and what is printed compared."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from anysock.options.serve import ServeOptions
from anysock.options.units import parse_duration
from tests.documents.sessions import Session, files, matches

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
RACE = HOWTO.parent / "tutorial" / "simulation.md"

#: Page, and the program that it needs besides ours.
PAGES = {
    "tls": "openssl",
    "faults": None,
    "limits": None,
    "workers": None,
    "udp": None,
    "behind-haproxy": "haproxy",
    "observe": "curl",
    "systemd": "systemd-socket-activate",
    "drain": "curl",
    "testing": None,
    "simulate": None,
    "inside-other-programs": None,
}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_do_what_it_shows(page, tmp_path):
    program = PAGES[page]
    if program is not None and shutil.which(program, path="/usr/sbin:/usr/bin:/bin") is None:
        pytest.skip(f"{program} is not installed")
    Session(HOWTO / f"{page}.md", tmp_path).run()


def test_the_race_of_the_tutorial_is_found_and_mended_as_it_shows(tmp_path):
    Session(RACE, tmp_path).run()


def test_what_is_shown_is_compared():
    assert matches(["hello 12", "...", "end"], ["hello 7", "a", "b", "end"])
    assert matches(["a ... c"], ["a b c"])
    assert not matches(["hello"], ["hello", "more"])
    assert not matches(["hello"], ["hullo"])


def arguments_of(words: list[str]) -> ServeOptions:
    """What ``anysock serve`` makes of these arguments."""
    from anysock.cli import anysock

    [name, *arguments] = words
    command = anysock.get_command(click.Context(anysock), name)
    assert command is not None
    given = command.make_context(name, arguments).params
    for what in ("handler", "lifespan"):  # no options of the server
        given.pop(what)
    return ServeOptions(**given)


def test_systemd_finds_no_fault_with_the_units(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed")
    units = files(HOWTO / "systemd.md")
    assert list(units) == ["anysock.socket", "anysock.service"]
    for name, text in units.items():
        (tmp_path / name).write_text(text.replace("/opt/anysock/bin/anysock", "/bin/true"))
    done = subprocess.run(
        [program, "verify", *map(str, tmp_path.iterdir())],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_takes_the_socket_of_the_other_unit_and_has_time_to_drain():
    units = files(HOWTO / "systemd.md")
    service = configparser.RawConfigParser(strict=False)
    service.optionxform = str  # type: ignore[method-assign,assignment]
    service.read_string(units["anysock.service"])
    [_, *words] = service["Service"]["ExecStart"].split()
    options = arguments_of(words)
    name = re.search(r"FileDescriptorName=(.+)", units["anysock.socket"])
    assert name is not None
    assert [str(address) for address in options.addresses] == [f"systemd://{name[1]}"]
    stop = parse_duration(service["Service"]["TimeoutStopSec"])
    assert stop > options.drain_timeout + 2


def test_a_pod_has_longer_than_its_drain():
    [manifest] = re.findall(r"```yaml\n(.*?)```", (HOWTO / "drain.md").read_text(), re.DOTALL)
    [words] = re.findall(r"args: (\[.*?\])", manifest, re.DOTALL)
    options = arguments_of(json.loads(words))
    [grace] = re.findall(r"terminationGracePeriodSeconds: (\d+)", manifest)
    assert int(grace) >= options.drain_timeout + 2
    ports = {int(port) for port in re.findall(r"port: (\d+)", manifest)}
    assert ports == {options.admin.port}  # type: ignore[union-attr]
    assert f"containerPort: {options.addresses[0].port}" in manifest
