"""``anysock lab``: verdicts, reports, and the experiments whose outcome no busy machine changes."""

from __future__ import annotations

import email.message
import errno
import json
import os
import re
import subprocess
import sys
import urllib.parse
from importlib import metadata
from pathlib import Path

import pytest

from anysock.engines import ENGINES
from anysock.lab import models, ring, stage
from anysock.lab.catalogue import CLAIMS, chosen
from anysock.lab.claims import Claim, Finding, NotMeasured, Result, Verdict
from anysock.lab.pages import Docs, lab_page
from tests import prepared
from tests.io_uring import needs_io_uring

ROOT = Path(__file__).parents[2]
LAB = [sys.executable, "-m", "anysock", "lab"]

YES = Finding.judge("a", "1 µs", holds=True, value=1.0)
NO = Finding.judge("b", "2 µs", holds=False, value=2.0)
UNKNOWN = Finding("c", "not here", Verdict.NOT_MEASURED)

# Their outcome depends on what the system does, and not on how fast.
CERTAIN = (
    "recv-returns-up-to-n",
    "crlf-may-be-split",
    "send-is-not-sendall",
    "reuseaddr",
    "connections-wait-in-the-backlog",
    "a-silent-client-blocks-the-next",
    "drain-returns-all-bytes-in-flight",
    "sleep-decides-the-timeout",
    "a-failed-task-is-silent",
    "a-list-that-grows-keeps-its-sockets",
)

# … and they need io_uring.
OF_COMPLETION = (
    "one-system-call-for-many-clients",
    "a-buffer-in-flight-is-the-kernels",
    "a-cancelled-receive-may-have-received",
)

OF_POLLING = ("polling-burns-a-core", "a-selector-sleeps-in-the-kernel")


def lab(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = prepared.run([*LAB, *arguments], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def claim(experiment):
    return Claim("name", "it <is> said", "how", "threshold", "read on", experiment)


@pytest.mark.parametrize(
    ("findings", "verdict"),
    [
        ([YES], Verdict.CONFIRMED),
        ([YES, UNKNOWN], Verdict.CONFIRMED),
        ([YES, NO], Verdict.REFUTED),
        ([NO, UNKNOWN], Verdict.REFUTED),
        ([UNKNOWN], Verdict.NOT_MEASURED),
        ([], Verdict.NOT_MEASURED),
    ],
)
def test_one_finding_refutes_and_none_confirms_nothing(findings, verdict):
    assert Result(claim(list), findings).verdict is verdict


def test_what_can_not_be_measured_is_said_and_never_confirmed():
    def experiment():
        yield YES
        raise NotMeasured("there is no /proc here")

    result = claim(experiment).run()
    assert result.verdict is Verdict.NOT_MEASURED
    assert [found.figure for found in result.findings] == ["there is no /proc here"]


@pytest.mark.parametrize("name", CERTAIN)
def test_the_claims_that_no_busy_machine_changes(name):
    result = CLAIMS[name].run()
    assert result.verdict is Verdict.CONFIRMED, result


@pytest.mark.parametrize("name", OF_COMPLETION)
def test_the_claims_about_completion(name):
    needs_io_uring()
    result = CLAIMS[name].run()
    assert result.verdict is Verdict.CONFIRMED, result


@pytest.mark.parametrize(
    ("refusal", "disabled", "why"),
    [
        (errno.ENOSYS, "0", "the kernel has none (Linux 5.1 was the first), or a seccomp filter"),
        (errno.EPERM, "0", "a seccomp filter refuses it, as Docker's does by default"),
        (errno.EPERM, "2", "io_uring_disabled has switched it off"),
        (errno.ENOMEM, "0", os.strerror(errno.ENOMEM)),
    ],
)
def test_without_io_uring_claims_about_it_say_why(refusal, disabled, why, monkeypatch, tmp_path):
    def refuse(number, *arguments):
        raise OSError(refusal, os.strerror(refusal))

    switch = tmp_path / "io_uring_disabled"
    switch.write_text(f"{disabled}\n")
    monkeypatch.setattr(ring, "_call", refuse)
    monkeypatch.setattr("anysock.machine.io_uring.SWITCH", switch)
    for name in OF_COMPLETION:
        result = CLAIMS[name].run()
        assert result.verdict is Verdict.NOT_MEASURED
        assert why in result.findings[0].figure
        assert "\n" not in result.findings[0].figure


@pytest.mark.parametrize("name", [name for name in CLAIMS if name not in CERTAIN + OF_COMPLETION])
def test_the_other_experiments_come_to_a_figure(name, monkeypatch):
    # Under some engines, and for less long than is right for figures: `anysock lab` takes its time.
    some = ["selector", "threads", "asyncio", *(["polling"] if name in OF_POLLING else [])]
    monkeypatch.setattr(stage, "ENGINES", {name: ENGINES[name] for name in some})
    monkeypatch.setattr(models, "SPAN", 0.3)
    result = CLAIMS[name].run()
    assert result.findings
    assert all(finding.figure for finding in result.findings)
    # A busy machine may refute what depends on speed; but each was measured.
    assert result.verdict is not Verdict.NOT_MEASURED, result


def test_every_claim_says_all_there_is_to_say():
    assert len(CLAIMS) >= 19
    for name, each in CLAIMS.items():
        assert each.name == name
        assert all((each.says, each.how, each.threshold, each.read_on))


def test_one_claim_is_explained():
    done = lab("crlf-may-be-split")
    for word in ("claim", "how", "threshold", "recv(2)", "confirmed", "read on"):
        assert word in done.stdout


def test_a_list_of_the_claims():
    out = lab("--list").stdout
    assert all(name in out for name in CLAIMS)


def test_reports_in_files(tmp_path):
    json_file, html_file = tmp_path / "lab.json", tmp_path / "lab.html"
    lab("recv-returns-up-to-n", "--json", str(json_file), "--html", str(html_file))
    [told] = json.loads(json_file.read_text())
    assert told["verdict"] == "confirmed"
    assert told["findings"][0]["value"] >= 500_000
    assert "TCP carries bytes, not messages" in html_file.read_text()


def test_json_to_standard_output():
    [told] = json.loads(lab("reuseaddr", "--json", "-").stdout)
    assert told["name"] == "reuseaddr"


def test_an_unknown_claim_is_one_line():
    done = lab("no-such-claim", code=2)
    assert "no such claim: no-such-claim; there are recv-returns-up-to-n," in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_names_choose_and_none_means_all():
    assert [each.name for each in chosen(("reuseaddr",))] == ["reuseaddr"]
    assert [each.name for each in chosen(())] == list(CLAIMS)


def test_the_page_escapes_what_it_shows():
    page = lab_page([Result(claim(list), [YES, NO, UNKNOWN])])
    assert "it &lt;is&gt; said" in page
    assert "<is>" not in page
    for verdict in Verdict:
        assert verdict.value in page
    assert 'class="bars"' not in page  # one of them was not measured


def test_the_page_has_its_summary_on_top_and_bars_where_there_are_figures():
    page = lab_page([Result(claim(list), [YES, NO])])
    assert page.index("Of 1 claims") < page.index("<h2")
    assert f'href="#{claim(list).name}"' in page
    assert page.count('class="bar"') == 2
    assert "1 µs: confirmed" in page
    assert len(page) < 500_000


LINK = re.compile(r'<a href="([^"#]+)">([^<]+)</a>')


def links(docs: Docs | None) -> list[tuple[str, str]]:
    """Those of a page of all claims, which leave it: where they lead, and their words."""
    return LINK.findall(lab_page([Result(each, [YES]) for each in CLAIMS.values()], docs))


@pytest.mark.parametrize("ending", [".md", ".html"])
def test_every_page_that_a_claim_names_is_a_link_that_leads_there(tmp_path, ending):
    docs = ROOT / "docs"
    if ending == ".html":  # as it is built, in a folder with a space
        docs = tmp_path / "built docs"
        for source in (ROOT / "docs").rglob("*.md"):
            page = docs / source.relative_to(ROOT / "docs").with_suffix(".html")
            page.parent.mkdir(parents=True, exist_ok=True)
            page.touch()
    report = tmp_path / "reports" / "lab.html"
    found = links(Docs.at(str(docs), report))
    named = [each.read_on for each in CLAIMS.values() if "docs" in each.read_on]
    assert len(found) >= len(named) > 10
    for way, words in found:
        page = Path(os.path.normpath(report.parent / urllib.parse.unquote(way)))
        assert page.is_file(), words
        assert way.startswith("../"), "it is lost where both are moved"
        if words.startswith("S"):
            assert page.stem == f"s{int(words[1:]):02}"
    assert {words for _, words in found} >= {"S5", "S6", "docs/performance.md"}


def test_a_url_is_linked_to_as_it_is():
    found = links(Docs.at("https://docs.example/anysock/", Path("lab.html")))
    assert ("https://docs.example/anysock/tutorial/s04.html", "S4") in found
    [first, *_] = links(Docs.at('https://docs.example/"><script>', Path("lab.html")))
    assert first[0].startswith("https://docs.example/&quot;&gt;&lt;script&gt;/")


@pytest.mark.parametrize(
    ("urls", "leads"),
    [
        (["Source, https://a.example", "Documentation, https://b.example/"], "https://b.example"),
        (["Source, https://a.example"], None),
        ([], None),
    ],
)
def test_without_being_told_it_links_to_where_the_distribution_says(monkeypatch, urls, leads):
    told = email.message.Message()
    for each in urls:
        told["Project-URL"] = each
    monkeypatch.setattr(metadata, "metadata", lambda name: told)
    docs = Docs.of_distribution()
    assert docs == (None if leads is None else Docs(leads))
    assert bool(links(docs)) == bool(leads)


def test_where_no_documentation_is_nothing_is_measured(tmp_path):
    done = lab("reuseaddr", "--html", str(tmp_path / "lab.html"), "--docs", str(tmp_path), code=2)
    assert "no index.html, and no index.md" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "lab.html").exists()
    assert "for the page of --html" in lab("reuseaddr", "--docs", str(tmp_path), code=2).stderr


def test_the_command_writes_a_page_with_links(tmp_path):
    file = tmp_path / "lab.html"
    lab("crlf-may-be-split", "--html", str(file), "--docs", str(ROOT / "docs"))
    [(way, words)] = LINK.findall(file.read_text(encoding="utf-8"))
    assert words == "S2"
    assert (tmp_path / way).resolve() == ROOT / "docs" / "tutorial" / "s02.md"
