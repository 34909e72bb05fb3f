"""How hatchling takes README.md: for a package index, where links into this repository, and to
headings, lead nowhere. Their words stay; pictures of this repository are left out."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[[^\[\]]*\]\((?!https?://)[^()\s]+\)\n*")
_LINK = re.compile(r"\[((?:[^\[\]]|\n)+)\]\((?!https?://)[^()\s]+\)")


class ReadmeOfAnIndex(MetadataHookInterface):
    """Called by hatchling, which finds it as the only one of its kind in this file."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the text in place that `dynamic` in pyproject.toml announces."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": _LINK.sub(r"\1", _PICTURE.sub("", text)),
        }
