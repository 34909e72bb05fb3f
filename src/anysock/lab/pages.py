"""The lab's report as a page: one file, that a browser shows without a network."""

from __future__ import annotations

import html
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from anysock.bench.reports.bars import Bar, bars
from anysock.bench.reports.pages import plain_page
from anysock.bench.results import this_machine
from anysock.engines import ENGINES
from anysock.errors import UsageError
from anysock.lab.claims import Finding, Result, Verdict

# Colours that can be read on a light and on a dark ground.
_MARKS = {Verdict.CONFIRMED: "#1f8a3f", Verdict.REFUTED: "#d1434b", Verdict.NOT_MEASURED: "#a8791a"}


# Of what a claim says to read on: rungs of the tutorial, and other pages.
_PAGE = re.compile(r"\bS(\d+)\b|\bdocs/([\w/-]+)\.md\b")


@dataclass(frozen=True)
class Docs:
    """Where the documentation is, so that a page can link to it."""

    #: As it stands in a link.
    base: str
    ending: str = ".html"

    @classmethod
    def at(cls, given: str, page: Path) -> Docs:
        """At a URL, where it was built; or in a folder: as it was built, or as it was written. From
        `page`, a folder is linked to by the way from there, so that both can be moved together.
        Raises `UsageError` when it is not in that folder."""
        if re.match(r"(?:https?|file)://", given):
            return cls(given.rstrip("/"))
        for ending in (".html", ".md"):
            if Path(given, f"index{ending}").is_file():
                way = Path(os.path.relpath(given, page.parent)).as_posix()
                return cls(urllib.parse.quote(way), ending)
        raise UsageError(f"--docs: no documentation is in {given}: no index.html, and no index.md")

    @classmethod
    def of_distribution(cls) -> Docs | None:
        """Where the distribution says that it is, if it does."""
        try:
            urls = metadata.metadata("anysock").get_all("Project-URL") or []
        except metadata.PackageNotFoundError:  # it runs from its source
            return None
        for label, url in (each.split(", ", 1) for each in urls):
            if label.casefold() == "documentation":
                return cls(url.rstrip("/"))
        return None

    def linked(self, text: str) -> str:
        """`text`, in HTML, in which each page that it names is a link."""
        return _PAGE.sub(self._link, text)

    def _link(self, found: re.Match[str]) -> str:
        rung, page = found.groups()
        name = page if rung is None else f"tutorial/s{int(rung):02}"
        return f'<a href="{html.escape(self.base)}/{name}{self.ending}">{found[0]}</a>'


def lab_page(results: Sequence[Result], docs: Docs | None = None) -> str:
    """The page of ``anysock lab``, with links to the documentation, if it is known where that
    is."""
    return plain_page(
        "The lab: claims about I/O models, measured",
        [_summary(results), *(_claim(result, docs) for result in results)],
        this_machine(),
    )


def _summary(results: Sequence[Result]) -> str:
    """How many claims have come out how; and each, with a link to its experiment."""
    counts = Counter(result.verdict for result in results)
    told = ", ".join(f"<strong>{counts[verdict]}</strong> {_mark(verdict)}" for verdict in Verdict)
    rows = "".join(
        f'<tr><td><a href="#{result.claim.name}">{html.escape(result.claim.says)}</a></td>'
        f"<td>{_mark(result.verdict)}</td></tr>"
        for result in results
    )
    table = f'<table class="claim"><tbody>{rows}</tbody></table>'
    return f'<p>Of {len(results)} claims: {told}.</p><div class="scroll">{table}</div>'


def _claim(result: Result, docs: Docs | None) -> str:
    claim = result.claim
    read_on = html.escape(claim.read_on)
    if docs is not None:
        read_on = docs.linked(read_on)
    return (
        f'<h2 id="{claim.name}">{html.escape(claim.says)} {_mark(result.verdict)}</h2>'
        f"<p>{html.escape(claim.how)}</p>"
        f'<p class="note">Threshold: {html.escape(claim.threshold)}. '
        f"Read on: {read_on}.</p>" + (_bars(result.findings) or _table(result))
    )


def _bars(findings: Sequence[Finding]) -> str:
    """Findings as bars, where there are several numbers of one kind."""
    kinds = {re.sub(r"[\d.,]+", "#", found.figure) for found in findings}
    values = [found.value for found in findings if found.value is not None and found.value > 0]
    if len(findings) < 2 or len(kinds) > 1 or len(values) < len(findings):
        return ""
    shown = [
        Bar(
            found.subject,
            found.value or 0.0,
            f"{found.figure}: {found.verdict.value}",
            kind="bad"
            if found.verdict is Verdict.REFUTED
            else "ours"
            if found.subject in ENGINES
            else "",
        )
        for found in findings
    ]
    return bars("", shown)


def _table(result: Result) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(found.subject)}</td><td>{html.escape(found.figure)}</td>"
        f"<td>{_mark(found.verdict)}</td></tr>"
        for found in result.findings
    )
    return f'<div class="scroll"><table class="claim"><tbody>{rows}</tbody></table></div>'


def _mark(verdict: Verdict) -> str:
    return f'<strong style="color: {_MARKS[verdict]}">{verdict.value}</strong>'
