"""What holds for every command: its help, what it needs, and an output that can't be written."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from anysock.cli import COMMANDS, anysock
from anysock.errors import UsageError
from anysock.options.serve import OPTIONS
from anysock.options.values import flag
from tests import prepared
from tests.commands import running


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
    wanted = ["tls_cert", "tls_key", "tls_client_ca", "tls_alpn"]
    if name != "serve":
        wanted = ["tls_ca", "tls_cert", "tls_key"]
    assert tls in (wanted, [])


def help_of(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = CliRunner().invoke(anysock, [name, "--help"])
    assert done.exit_code == 0
    return done.output


def test_the_options_of_serve_stand_under_the_headings_of_their_reference(monkeypatch):
    text = help_of("serve", 80, monkeypatch)
    groups = [spec.group for spec in OPTIONS.values() if spec.group]
    headings = [line.rstrip(":") for line in text.splitlines() if line and line[0] != " "]
    assert headings[1:] == [*groups, "Other options"]
    sections = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)
    for name in OPTIONS:
        before = list(OPTIONS)[: list(OPTIONS).index(name) + 1]
        group = next(OPTIONS[each].group for each in reversed(before) if OPTIONS[each].group)
        assert f" {flag(name)} " in sections[sections.index(group) + 1], name


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_the_terminal_and_breaks_no_name(name, columns, monkeypatch):
    text = help_of(name, columns, monkeypatch)
    table = r"    \w+ +.*\(RFC \d+\)|    lines .*"  # of handlers, which is not reflowed
    lines = [line for line in text.splitlines() if not re.fullmatch(table, line)]
    assert [line for line in lines if len(line) > min(columns, 80)] == []
    assert [line for line in lines if re.search(r"\w-$", line)] == []


@pytest.mark.parametrize("columns", [40, 80])
def test_the_list_of_commands_is_not_cut(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = CliRunner().invoke(anysock, ["--help"]).output.partition("Commands:")[2]
    for name in COMMANDS:
        assert re.search(rf"^  {name}\b", shown, re.MULTILINE)
    assert "..." not in shown


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["engines"], *([name, "--help"] for name in COMMANDS)],
    ids=" ".join,
)
def test_an_output_that_can_not_be_written_is_one_line(arguments):
    with open("/dev/full", "w") as full:
        done = prepared.run(
            [sys.executable, "-m", "anysock", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "anysock: can't write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["serve", "--por", "7"], " Did you mean --port?"),
        (["serve", "--tls-c"], " Did you mean --tls-cert, --tls-client-ca?"),
        (["serve", "--no-log"], " Did you mean --no-log-time?"),
        (["ping", "--cuont", "3"], " Did you mean --count?"),
        (["serv"], " Did you mean serve?"),
        (["--versoin"], " Did you mean --version?"),
        (["load", "--\x1b[31m"], ""),
        (["\n"], ""),
        ([""], ""),
    ],
    ids=ascii,
)
def test_what_there_is_not_is_one_line_with_what_may_be_meant(arguments, meant):
    done = running.anysock(*arguments, code=2)
    given = (arguments * 2)[1]
    kind = "option" if given.startswith("-") else "command"
    assert done.stderr == f"anysock: No such {kind} {given!r}.{meant}\n"


HOSTILE = [
    "", "0", "-1", str(2**63), "9" * 401, "9" * 5000, "nan", "inf", "1e400", "²", "1,", ",", "%",
    "\udcff", "\ud800", "\0", "x" * 100_000, "a\nb", "\x1b[31m", "[", "[::1", "://", "unix:///\0",
    "unix://", "fd://0", "p99<", "p99<nan", "p99<1e400", "p1e400<1s", "-", "/nope/nope", "/",
]  # fmt: skip

OF_CLIENTS = [
    pytest.param(name, param, id=f"{name}-{param.name}")
    for name in COMMANDS
    for param in command(name).params
    if name != "serve" and not (isinstance(param, click.Option) and param.is_flag)
]


@pytest.mark.parametrize(("name", "param"), OF_CLIENTS)
def test_whatever_is_given_to_a_command_is_a_value_or_one_line(name, param):
    for given in HOSTILE:
        arguments = ["--", given]
        if isinstance(param, click.Option):
            address = [":1"] if name in ("talk", "ping", "load") else []
            arguments = [*address, param.opts[-1], given]
        told = ""
        try:
            command(name).make_context(name, arguments)
        except click.ClickException as error:
            told = error.format_message()
        except UsageError as error:
            told = str(error)
        assert len(told.splitlines()) <= 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--size 1GiB --depth 2", "--depth 2 times --size 1073741824 is more than 1GiB"),
        ("--size 2GiB", "a message has at most 1GiB, not 2GiB"),
        ("--connections 99999999999", "are more than can be opened"),
        ("--rate 1e10", "expected a number from 0.001 to 1e+09, not '1e10'"),
        ("--rate nan", "expected a number, not 'nan'"),
        ("--html -", "standard output is for the report in words"),
        (f"--json {'x' * 300}", "File name too long"),
    ],
)
def test_a_load_that_no_machine_bears_is_refused_before_it_begins(arguments, says):
    done = prepared.run(
        [sys.executable, "-m", "anysock", "load", "127.0.0.1:1", *arguments.split()],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_report_that_can_not_be_written_in_the_end_is_one_line():
    """As root, everything seems to be writable, until it is written."""
    path = "/proc/self/nope"
    done = prepared.run(
        [sys.executable, "-m", "anysock", "lab", "nothing-means-closed", "--json", path],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)  # 2: without the rights of root, it is told before
    assert done.stderr.splitlines()[-1].startswith("anysock: ")
    assert f"can't write {path}: " in done.stderr
    assert "Traceback" not in done.stderr


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


# A Ctrl-C that comes while the package is imported that the first argument names.
_INTERRUPTED = """
import signal, sys
from anysock.__main__ import main

package = sys.argv.pop(1)

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == package:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
main()
"""


@pytest.mark.parametrize("package", ["anysock.cli", "click", "anysock.cli.engines"])
def test_interrupted_while_it_is_imported_it_just_ends(package):
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, package, "engines"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    # (click ends the line of the ^C.)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, b"", b"")
