"""What a shell is told at Tab, by click's protocol; and that the page says how to switch it on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from anysock.cli import COMMANDS, anysock
from anysock.engines import ENGINES
from anysock.handlers import HANDLERS
from anysock.lab.catalogue import CLAIMS

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "completion.md").read_text()


def typed(*words: str, shell: str = "bash") -> dict[str, str]:
    """The environment in which `shell` asks what the last of `words` is completed to."""
    return {
        "_ANYSOCK_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["anysock", *words]),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }


def run(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anysock"], env=os.environ | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def offered(*words: str) -> list[str]:
    """What bash is told, a line each."""
    done = CliRunner().invoke(anysock, prog_name="anysock", env=typed(*words))
    assert done.exit_code == 0
    return [line for line in done.output.splitlines() if line]


def plain(*names: str) -> list[str]:
    return [f"plain,{name}" for name in names]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([""], plain(*COMMANDS)),
        (["serve", ""], plain(*HANDLERS)),
        (["serve", "da"], plain("daytime")),
        (["serve", "lines", "--engine", ""], plain(*ENGINES)),
        (["serve", "-e", "t"], plain("threads", "trio")),
        (["serve", "--engine=s"], plain("selector")),
        (["serve", "--workers", ""], plain("auto")),
        (["serve", "--overflow", ""], plain("wait", "close")),
        (["serve", "--log-level", "w"], plain("warning")),
        (["serve", "--proxy-p"], plain("--proxy-protocol")),
        (["serve", "--tls-cert", "ce"], ["file,ce"]),
        (["serve", "--port", ""], []),
        (["lab", ""], plain(*CLAIMS)),
        (["lab", "crlf-may-be-split", "crlf"], []),
        (["lab", "--json", ""], ["file,"]),
        (["ping", "--tls-ca", ""], ["file,"]),
        (["load", "--html", "r"], ["file,r"]),
        (["bench", "--generator", ""], plain("c", "python")),
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_a_shell_is_told_what_can_come_next(words, wanted):
    assert offered(*words) == wanted


@pytest.mark.parametrize(
    ("shell", "wanted"),
    [
        ("bash", "plain,trio"),
        ("zsh", f"plain\ntrio\n{ENGINES['trio'].when_no_data}"),
        ("fish", f"plain,trio\t{ENGINES['trio'].when_no_data}"),
    ],
)
def test_the_command_answers_each_shell(shell, wanted):
    # What else is wrong in the environment does not disturb it.
    done = run(typed("serve", "-e", "tri", shell=shell) | {"ANYSOCK_ENGINE": "warp"})
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, wanted, "")


@pytest.mark.parametrize("asked", ["csh_source", "bash_complete", "_", "\udcff"])
def test_what_no_shell_would_ask_is_one_line(asked):
    done = run({"_ANYSOCK_COMPLETE": asked})
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("anysock: _ANYSOCK_COMPLETE")
    assert done.stderr.count("\n") == 1


# What each shell would do at Tab, after the words of the page.
AT_TAB = {
    "bash": "COMP_WORDS=(anysock serve -e tr); COMP_CWORD=3; _anysock_completion anysock;"
    ' echo "${COMPREPLY[@]}"',
    "zsh": "print ${_comps[anysock]}",
    "fish": "complete --do-complete 'anysock serve -e tr'",
}


@pytest.mark.parametrize("shell", AT_TAB)
def test_the_page_says_how_it_is_switched_on(shell, tmp_path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    [switch_on] = re.findall(rf"```{shell}\n(.*?)```", PAGE, re.DOTALL)
    before = "autoload -U compinit; compinit -u -D;" if shell == "zsh" else ""
    (tmp_path / "anysock").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m anysock "$@"\n')
    (tmp_path / "anysock").chmod(0o755)
    done = subprocess.run(
        [program, "-c", f"{before}\n{switch_on}\n{AT_TAB[shell]}"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    wanted = "_anysock_completion" if shell == "zsh" else "trio"
    assert done.stdout.split()[:1] == [wanted]
