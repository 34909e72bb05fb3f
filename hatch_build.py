"""What hatchling does not do by itself: README.md for a package index, and the compiled path."""

import os
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[[^\[\]]*\]\((?!https?://)[^()\s]+\)\n*")
_LINK = re.compile(r"\[((?:[^\[\]]|\n)+)\]\((?!https?://)[^()\s]+\)")


class ReadmeOfAnIndex(MetadataHookInterface):
    """README.md without the links into this repository, and to headings, which lead nowhere there.
    Their words stay; pictures of this repository are left out.

    hatchling finds it as the only one of its kind in this file."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put the text in place that `dynamic` in pyproject.toml announces."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": _LINK.sub(r"\1", _PICTURE.sub("", text)),
        }


class CompiledPath(BuildHookInterface):
    """``src/anysock/_fast.c``, compiled beside its source. Where that can't be done, nothing is
    missing but speed: the build says so, and goes on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs a wheel, or installs for editing."""
        if os.environ.get("ANYSOCK_PURE", "0") not in ("", "0"):
            self._leave_out("ANYSOCK_PURE is set")
            return
        folder = Path(self.root) / "src" / "anysock"
        module = folder / f"_fast{sysconfig.get_config_var('EXT_SUFFIX')}"
        made = module.with_suffix(".new")
        command = [
            *shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared"),
            *shlex.split(sysconfig.get_config_var("CCSHARED") or "-fPIC"),
            *shlex.split(os.environ.get("CFLAGS", "-O2")),
            f"-I{sysconfig.get_path('include')}",
            str(folder / "_fast.c"),
            *("-o", str(made)),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            self._leave_out(f"there is no C compiler: {error}")
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if "error" in line]
            self._leave_out(
                lines[0] if lines else f"the compiler's exit code is {error.returncode}"
            )
        else:
            made.replace(module)  # a process may have the old one open
            build_data["artifacts"].append(str(module.relative_to(self.root)))
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def _leave_out(self, reason: str) -> None:
        self.app.display_warning(f"anysock: built without its compiled path: {reason}")
