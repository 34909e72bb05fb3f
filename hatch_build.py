"""What hatchling does not do by itself: README.md for a package index, and what is in C."""

import os
import re
import shlex
import subprocess
import sys
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


class Compiled(BuildHookInterface):
    """What is in C in ``src/anysock``, compiled beside its source: ``_fast.c``, without which
    nothing is missing but speed, and ``_uring.c``, without which the engine `uring` is. Where that
    can't be done, the build says so, and goes on."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs a wheel, or installs for editing."""
        if os.environ.get("ANYSOCK_PURE", "0") not in ("", "0"):
            self._leave_out("what is compiled", "ANYSOCK_PURE is set")
            return
        self._compile("_fast", "its compiled path", build_data)
        if sys.platform == "linux":
            self._compile("_uring", "the engine uring", build_data)

    def _compile(self, name: str, what: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / "src" / "anysock"
        module = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
        made = module.with_suffix(".new")
        command = [
            *shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared"),
            *shlex.split(sysconfig.get_config_var("CCSHARED") or "-fPIC"),
            *shlex.split(os.environ.get("CFLAGS", "-O2")),
            f"-I{sysconfig.get_path('include')}",
            str(folder / f"{name}.c"),
            *("-o", str(made)),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            self._leave_out(what, f"there is no C compiler: {error}")
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if "error" in line]
            self._leave_out(
                what, lines[0] if lines else f"the compiler's exit code is {error.returncode}"
            )
        else:
            made.replace(module)  # a process may have the old one open
            build_data["artifacts"].append(str(module.relative_to(self.root)))
            build_data["pure_python"] = False
            build_data["infer_tag"] = True

    def _leave_out(self, what: str, reason: str) -> None:
        self.app.display_warning(f"anysock: built without {what}: {reason}")
