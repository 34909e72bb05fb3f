"""The documentation site: its sessions happen as they are shown, it builds, and fetches nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

import anysock as library
from tests.documents.sessions import files
from tests.documents.test_howto_sessions import PAGES as TYPED
from tests.documents.test_howto_sessions import RACE
from tests.harness import PATIENCE, free_port, listens, wait_until
from tests.io_uring import needs_io_uring

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
# To build the site takes half a minute of computing, and the first test that needs it waits
# for that, beside all others.
pytestmark = pytest.mark.timeout(300)

# (S14 has no program of its own: tests/clients/test_real_clients.py types what it shows.)
RUNGS = [DOCS / "tutorial" / f"s{number:02d}.md" for number in (*range(1, 14), 15)]


def consoles(page: Path) -> list[tuple[str, list[str]]]:
    """(command, the lines that it prints) of each console of a page."""
    shown = re.findall(r"```console\n\$ (.+)\n((?:(?!```|\$ ).*\n)*)```", page.read_text())
    return [(command, output.splitlines()) for command, output in shown]


def without_ports(line: str) -> str:
    return re.sub(r"\b\d{4,5}\b", "N", line).rstrip()


@pytest.mark.parametrize("page", RUNGS, ids=lambda page: page.stem)
def test_the_session_of_a_rung_happens_as_it_is_shown(page, tmp_path):
    if page.stem == "s15":
        needs_io_uring()
    (program, shown), *clients = [
        (command, output)
        for command, output in consoles(page)
        if not command.startswith("anysock lab")
    ]
    assert program.startswith("python examples/ladder/")
    port = free_port()
    words = program.removeprefix("python ").partition(" 2> ")[0]
    with (tmp_path / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-u", str(ROOT / words), "127.0.0.1", str(port)],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    stdout = process.stdout
    assert stdout is not None
    os.set_blocking(stdout.fileno(), False)
    said = b""

    def lines() -> list[str]:
        nonlocal said
        said += stdout.read() or b""
        return [without_ports(line) for line in said.decode().splitlines()]

    try:
        for command, answers in clients:
            wait_until(lambda: listens(port), "it listens")
            anysock = f"{sys.executable} -m anysock"
            typed = command.replace("anysock", anysock).replace(":8000", f":{port}")
            # Silent for as long as it is there: it may take longer than that to start.
            silent, nobody_writes = os.pipe()
            try:
                done = subprocess.run(
                    re.sub(r"^sleep \d+ \| ", "", typed) + " 2>&1", shell=True, stdin=silent,
                    stdout=subprocess.PIPE, text=True, timeout=30, check=True,
                )  # fmt: skip
            finally:
                os.close(silent)
                os.close(nobody_writes)
            assert done.stdout.splitlines() == answers
        wanted = [without_ports(line) for line in shown]
        # A program that tells the time, or that it waits, tells it as often as it does.
        wait_until(lambda: [line for line in wanted if line in lines()] == wanted, f"{wanted}")
        ticking = re.compile(r"No events|\d+ s, and nobody")
        got = [line for line in lines() if not ticking.match(line)]
        assert got == [line for line in wanted if not ticking.match(line)]
    finally:
        if clients:
            process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        stdout.close()
    assert process.returncode == 0


def test_the_results_in_the_docs_are_of_the_claims_that_there_are():
    from anysock.lab.catalogue import CLAIMS

    results = json.loads((DOCS / "lab.json").read_text())
    assert {result["name"]: result["says"] for result in results} == {
        name: claim.says for name, claim in CLAIMS.items()
    }


def commands(page: Path) -> list[list[str]]:
    """The arguments of each ``anysock`` that a page shows."""
    shown = re.findall(r"^(?:.*\$ |    )(?:.*\| )?anysock (.*)$", page.read_text(), re.MULTILINE)
    # Without what is the shell's: where it is sent, and what comes after.
    alone = [re.split(r"\s+(?:\d?[<>]|[|&;])", line)[0] for line in shown]
    return [shlex.split(line, comments=True) for line in alone]


def test_every_command_that_is_shown_is_one_that_there_is():
    from anysock.cli import anysock
    from anysock.lab.catalogue import chosen

    seen = 0
    for page in [ROOT / "README.md", *PAGES]:
        for name, *arguments in commands(page):
            command = anysock.get_command(click.Context(anysock), name)
            assert command is not None, f"{page.name}: anysock {name}"
            context = command.make_context(name, arguments)  # raises for what it does not take
            seen += 1
            if name == "lab":
                chosen(context.params["claims"])
    assert seen > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_python_that_is_shown_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what it writes is not for the checkout
    # What a page that is typed has its reader save is run as a file.
    saved = set(files(page).values()) if page.stem in TYPED or page == RACE else set()
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        if code not in saved:
            exec(compile(code, str(page), "exec"), {})


class _Links(HTMLParser):
    """What a page loads, and where it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if id := found.get("id"):
            self.ids.add(id)
        if tag in ("script", "img", "iframe") and (source := found.get("src")):
            self.loads.append(source)
        if tag == "link" and found.get("rel") in ("stylesheet", "icon") and found.get("href"):
            self.loads.append(str(found["href"]))
        if tag == "a" and (target := found.get("href")):
            self.links.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning of the build is an error."""
    if importlib.util.find_spec("sphinx") is None:
        assert not os.environ.get("CI"), "sphinx is not installed"
        pytest.skip("sphinx is not installed")
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html",
         "-d", str(target / "doctrees"), str(DOCS), str(target / "html")],
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target / "html"


def test_the_site_builds_and_every_link_in_it_leads_somewhere(site):
    pages = {path: _Links() for path in site.rglob("*.html")}
    for path, links in pages.items():
        links.feed(path.read_text())
    assert len(pages) > 25
    for path, links in pages.items():
        for source in links.loads:
            assert "//" not in source, f"{path.name} loads {source}"
            assert (path.parent / source.partition("?")[0]).exists(), source
        for target in links.links:
            if "://" in target or target.startswith("mailto:"):
                continue
            file, _, anchor = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{path.name} links to {target}"
            if anchor and there in pages:
                assert anchor in pages[there].ids, f"{path.name} links to {target}"


def test_the_reference_of_the_library_shows_what_is_for_users_and_not_what_is_for_workers(site):
    shown = set(
        re.findall(r'id="anysock\.Server\.(\w+)"', (site / "reference/api.html").read_text())
    )
    assert {"start", "serve_forever", "drain", "end", "pause", "unready", "connections"} <= shown
    assert not shown & {"process", "retire", "traffic"}


def test_the_reference_of_the_library_has_each_public_name_once():
    page = (DOCS / "reference" / "api.md").read_text()
    named = re.findall(r"^\.\. auto(?:class|function):: (\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(set(library.__all__) - {"Handler", "Lifespan"})


def test_the_reference_of_the_command_line_has_a_heading_for_each_command(site):
    page = (site / "reference" / "cli.html").read_text()
    headings = re.findall(r"<h3>([^<]*)<", page)
    from anysock.cli import anysock

    assert headings == sorted(anysock.list_commands(click.Context(anysock)))


def test_what_is_code_is_shown_as_it_is_typed(site):
    """No quotes and dashes that a program would not take."""
    for path in site.rglob("*.html"):
        shown = re.sub(r"<(script|style|title).*?</\1>", "", path.read_text(), flags=re.DOTALL)
        assert not re.findall(r".{0,40}[\u2018-\u201f].{0,40}", shown), path.name


def test_the_site_has_a_picture_on_each_rung(site):
    for rung in RUNGS:
        page = (site / "tutorial" / f"{rung.stem}.html").read_text()
        assert '<div class="timeline"><svg' in page
        assert "<title>" in page
