"""What hatchling does not do by itself: README.md for a package index, and what is compiled."""

import concurrent.futures
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
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


_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")

# What translates Python to C: for who wants the simulated network compiled.
_MYPYC = "mypy[mypyc]>=2.4,<3"


class NotCompiledError(Exception):
    """Why it was not."""


class Compiled(BuildHookInterface):
    """What is in C in ``src/anysock``, compiled beside its source: ``_fast.c``, without which
    nothing is missing but speed, and ``_uring.c``, without which the engine `uring` is; and, where
    ANYSOCK_COMPILE_SIM is set, the simulated network, which mypyc translates to C. Where that can't
    be done, the build says so, and goes on."""

    def dependencies(self) -> list[str]:
        """What is needed to build, besides what pyproject.toml says."""
        return [_MYPYC] if _is_set("ANYSOCK_COMPILE_SIM") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it packs a wheel, or installs for editing."""
        if _is_set("ANYSOCK_PURE"):
            self._leave_out("what is compiled", "ANYSOCK_PURE is set")
            return
        self._compile("_fast", "its compiled path", build_data)
        if sys.platform == "linux":
            self._compile("_uring", "the engine uring", build_data)
        if _is_set("ANYSOCK_COMPILE_SIM"):
            self._compile_simulation(build_data)

    def _compile(self, name: str, what: str, build_data: dict[str, Any]) -> None:
        folder = Path(self.root) / "src" / "anysock"
        module = folder / f"{name}{_SUFFIX}"
        made = module.with_suffix(".new")
        try:
            _link([folder / f"{name}.c"], made)
        except NotCompiledError as error:
            self._leave_out(what, str(error))
        else:
            made.replace(module)  # a process may have the old one open
            self._pack(build_data, module)

    def _compile_simulation(self, build_data: dict[str, Any]) -> None:
        package = Path(self.root) / "src" / "anysock" / "engines" / "sim"
        overlay = _overlay(package)
        sources = [package / f"{name}.py" for name in overlay.MODULES]
        made = package / overlay.FOLDER
        with tempfile.TemporaryDirectory() as folder:
            try:
                modules = _translated(sources, Path(self.root), Path(folder))
            except NotCompiledError as error:
                self._leave_out("a compiled simulation", str(error))
                return
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            for module in modules:
                shutil.move(module, made / module.name)
        (made / overlay.DIGEST).write_text(overlay.digest_of(package))
        self._pack(build_data, *made.iterdir())

    def _pack(self, build_data: dict[str, Any], *files: Path) -> None:
        build_data["artifacts"] += [str(each.relative_to(self.root)) for each in files]
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def _leave_out(self, what: str, reason: str) -> None:
        self.app.display_warning(f"anysock: built without {what}: {reason}")


def _is_set(name: str) -> bool:
    return os.environ.get(name, "0") not in ("", "0")


def _link(sources: Sequence[Path], module: Path, arguments: Sequence[str] = ()) -> None:
    """Compile one module. Raises `NotCompiledError`."""
    command = [
        *shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared"),
        *shlex.split(sysconfig.get_config_var("CCSHARED") or "-fPIC"),
        *shlex.split(os.environ.get("CFLAGS", "-O2")),
        f"-I{sysconfig.get_path('include')}",
        *arguments,
        *map(str, sources),
        *("-o", str(module)),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise NotCompiledError(f"there is no C compiler: {error}") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        told = lines[0] if lines else f"the compiler's exit code is {error.returncode}"
        raise NotCompiledError(told) from None


def _overlay(package: Path) -> Any:
    """`anysock.engines.sim.overlay`, without importing the package."""
    spec = importlib.util.spec_from_file_location("overlay", package / "overlay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# In a process of its own: mypyc ends that with SystemExit where something is wrong.
_TRANSLATE = """
import json, sys
from mypyc.build import mypycify
*arguments, folder, group = sys.argv[1:]
made = mypycify(arguments, target_dir=folder, group_name=group, debug_level="0")
found = [[each.name, each.sources, each.include_dirs, each.extra_compile_args] for each in made]
print(json.dumps(found))
"""


def _translated(sources: Sequence[Path], root: Path, folder: Path) -> list[Path]:
    """The modules of `sources`, translated to C by mypyc, and compiled: one that has all of them,
    and one for each that only names it. Raises `NotCompiledError`."""
    if importlib.util.find_spec("mypyc") is None:
        raise NotCompiledError("there is no mypyc: it comes with mypy")
    # What a build has not installed is not looked into.
    options = ["--follow-imports=silent", "--ignore-missing-imports"]
    files = [str(each.relative_to(root)) for each in sources]
    command = [sys.executable, "-c", _TRANSLATE, *options, *files, str(folder), "anysock_sim"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise NotCompiledError(lines[-1] if lines else f"mypyc's exit code is {done.returncode}")

    def link(name: str, made: list[str], include: list[str], arguments: list[str]) -> Path:
        module = folder / f"{name.rpartition('.')[2]}{_SUFFIX}"
        _link(
            [root / each for each in made],
            module,
            [*(f"-I{root / each}" for each in include), *arguments],
        )
        return module

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda each: link(*each), json.loads(done.stdout.splitlines()[-1])))
