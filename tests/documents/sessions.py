"""Runs the console blocks of a page, as a reader would type them, and compares what they print.

A block is a terminal of its own, in one folder for the page. A line that begins with ``$ `` is
typed; what follows it is what it prints, where ``...`` stands for lines, or for a part of one, that
are not the same twice; numbers need not be the same, either. Where nothing is shown, nothing is
compared, but the command must succeed; ``  # exit code 1`` after it says what else it ends with. A
command that listens (``anysock serve``, ``haproxy``) goes on in its terminal, and is ended when the
page is over. Port 8000 and the like are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness import PATIENCE, free_port, wait_until

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+\+00:00 ", re.MULTILINE)


@dataclass
class Terminal:
    """A block of the page: what is typed, and what is shown."""

    commands: list[tuple[str, list[str]]] = field(default_factory=list)


def terminals(page: Path) -> list[Terminal]:
    """The console blocks of a page."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        terminal = Terminal()
        for line in block.splitlines():
            if line.startswith("$ "):
                terminal.commands.append((line[2:], []))
            elif terminal.commands[-1][0].endswith("\\"):
                command, shown = terminal.commands.pop()
                terminal.commands.append((command + "\n" + line, shown))
            else:
                terminal.commands[-1][1].append(line)
        found.append(terminal)
    return found


def files(page: Path) -> dict[str, str]:
    """The files that a page shows: each after a line such as ``Save this as `haproxy.cfg`:``."""
    pattern = r"`([\w./-]+)`[^`\n]*:\n\n```\w*\n(.*?)```"
    return dict(re.findall(pattern, page.read_text(), re.DOTALL))


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether `printed` is what is shown."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
            continue
        parts = [re.escape(_NUMBER.sub("0", part)) for part in line.rstrip().split("...")]
        pattern += ".*".join(parts) + "[ ]*\n"
    said = "".join(_NUMBER.sub("0", line.rstrip()) + "\n" for line in printed)
    return re.fullmatch(pattern, said) is not None


class Session:
    """A page as it is typed."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self._ports: dict[str, str] = {}
        self._running: list[tuple[subprocess.Popen[bytes], Path, list[str]]] = []
        commands = folder / "bin"
        commands.mkdir()
        anysock = commands / "anysock"
        # In the program itself: not everything hands its environment on.
        path = shlex.quote(os.environ.get("PYTHONPATH", ""))
        anysock.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} -m anysock "$@"\n')
        anysock.chmod(0o755)
        self._environment = os.environ | {
            "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin",
            "HOME": str(folder),
            # What listens on its default, too, listens on a free port.
            "ANYSOCK_BIND": self._with_free_ports("127.0.0.1:8000"),
        }

    def run(self) -> None:
        for name, text in files(self.page).items():
            path = self.folder / name
            assert path.is_relative_to(self.folder), "not on the machine of who runs the tests"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._with_free_ports(text))
        try:
            for terminal in terminals(self.page):
                for command, shown in terminal.commands:
                    self._type(command, shown)
            for _, out, shown in self._running:
                self._check(" (running)", shown, out)
        finally:
            self._end()

    def _with_free_ports(self, text: str) -> str:
        def free(match: re.Match[str]) -> str:
            if match[2] not in self._ports:
                self._ports[match[2]] = str(free_port())
            return match[1] + self._ports[match[2]]

        return re.sub(r"([:\s=])([789]\d{3})\b", free, text)

    def _type(self, command: str, shown: list[str]) -> None:
        typed, _, code = command.partition("  # exit code ")
        typed = self._with_free_ports(typed)
        out = self.folder / f".out-{time.monotonic_ns()}"
        with out.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", typed],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append((process, out, []))
        if re.match(
            r"(.*; )?(\w+=\S+ )*(exec )?(anysock serve|haproxy|systemd-socket-activate)", typed
        ):
            first = [line for line in shown if "listening" in line.lower()][:1]
            wanted = re.escape(first[0].split(":")[0]) if first else ""
            wait_until(
                lambda: process.poll() is not None or re.search(wanted, out.read_text()),
                f"{typed} is ready: {out.read_text()}",
            )
            if not first:
                wait_until(lambda: process.poll() is not None or listens(process.pid), typed)
            assert process.poll() is None or code, out.read_text()
            self._running[-1] = (process, out, shown)
            return
        assert process.wait(60) == int(code or 0), f"{typed}: {out.read_text()}"
        self._running.pop()
        self._check(typed, shown, out)

    def _check(self, typed: str, shown: list[str], out: Path) -> None:
        def printed() -> list[str]:
            # A page shows what a terminal shows: there, the log's lines have no time.
            text = _TIME.sub("", out.read_text(errors="replace"))
            return text.splitlines()

        if shown:
            what = f"{self.page.name}: {typed} prints\n" + "\n".join(shown)
            try:
                wait_until(lambda: matches(shown, printed()), what, seconds=5)
            except AssertionError as error:
                raise AssertionError(f"{error}\nand not\n" + "\n".join(printed())) from None

    def _end(self) -> None:
        for process, _, _ in reversed(self._running):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process, _, _ in self._running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def listens(pid: int) -> bool:
    """Whether a process of the session of `pid` has a socket that listens."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if os.getsid(int(process.name)) != pid:
                    continue
                if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                    return True
            except OSError:
                continue
    return False
