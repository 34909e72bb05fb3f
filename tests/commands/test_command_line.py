"""What holds for every command: its help, what it needs, and an output that can't be written."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest

from anysock.cli import COMMANDS


def command(name: str) -> click.Command:
    found = importlib.import_module(f"anysock.cli.{name}").command
    assert isinstance(found, click.Command)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_called_what_it_is_and_each_option_has_help(name):
    assert command(name).name == name
    options = [each for each in command(name).params if isinstance(each, click.Option)]
    assert [each.name for each in options if not (each.help or "").split("[")[0].strip()] == []


@pytest.mark.parametrize("name", ["serve", "talk", "ping", "load", "bench"])
def test_options_of_tls_come_in_the_order_of_thinking(name):
    tls = [each.name for each in command(name).params if str(each.name).startswith("tls_")]
    wanted = ["tls_cert", "tls_key", "tls_client_ca"]
    if name != "serve":
        wanted = ["tls_ca", "tls_cert", "tls_key"]
    assert tls in (wanted, [])


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["engines"], *([name, "--help"] for name in COMMANDS)],
    ids=" ".join,
)
def test_an_output_that_can_not_be_written_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "anysock", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "anysock: can't write the output: No space left on device\n"


# The library without what the command line needs: importing it is an error.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("click", "rich", "h11", "prometheus_client", "hdrh"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
import anysock

async def main():
    async def shout(connection):
        async for line in connection.lines():
            await connection.send_all(line.upper())
    async with anysock.Server(shout, bind="127.0.0.1:0") as server:
        client = await anysock.connect(server.addresses[0])
        await client.send_all(b"hello\\n")
        print(await client.recv())
        await client.close()

anysock.run(main)
assert not {"click", "rich"} & set(sys.modules)
"""


def test_the_library_serves_and_connects_without_what_the_command_line_needs():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.returncode) == ("b'HELLO\\n'\n", 0), done.stderr
