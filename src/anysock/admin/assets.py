"""The files of the live page, as they are in the package: there is nothing to be built."""

from __future__ import annotations

from importlib import resources

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}

#: Each path of the page, and its file. uPlot 1.6.32 draws the charts (MIT; its licence lies beside
#: it, and is shown at ``/uPlot.LICENSE``), also those of the pages of ``anysock load``.
FILES = {
    "/live.js": "live.js",
    "/live.css": "live.css",
    "/uPlot.js": "uPlot.js",
    "/uPlot.css": "uPlot.css",
    "/uPlot.LICENSE": "uPlot.LICENSE",
}

#: What the page may load: its own files, and nothing of others. Nor may another page show it in a
#: frame, and have its buttons pressed unseen.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def read(name: str) -> tuple[bytes, str]:
    """A file of the page, and its content type."""
    body = resources.files("anysock.admin").joinpath("page", name).read_bytes()
    suffix = name[name.rindex(".") :]
    return body, _TYPES.get(suffix, "text/plain; charset=utf-8")
