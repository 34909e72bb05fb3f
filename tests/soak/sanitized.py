"""The contract, with what is in C built for finding faults: ``make sanitize``.

A copy of the sources is compiled with AddressSanitizer and UndefinedBehaviorSanitizer, and the
tests run on that copy, with Python's own allocator out of the way, so that each object is looked
after.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

FLAGS = ("-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-shared", "-fPIC")


def main(tests: list[str]) -> int:
    """Run `tests`, arguments of pytest. Returns its exit code, or 1 where something was found."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        found = Path(folder) / "found"
        shutil.copytree(
            ROOT / "src", source, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.new")
        )
        include = f"-I{sysconfig.get_path('include')}"
        for name in ("_fast", "_uring"):
            module = source / "anysock" / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
            written = source / "anysock" / f"{name}.c"
            subprocess.run(["gcc", *FLAGS, include, str(written), "-o", str(module)], check=True)
        libraries = [
            subprocess.run(
                ["gcc", f"-print-file-name=lib{name}.so"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()
            for name in ("asan", "ubsan")
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": str(source),
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONMALLOC": "malloc",
            # What Python keeps to its end is no leak of ours.
            "ASAN_OPTIONS": f"detect_leaks=0,log_path={found}",
            "UBSAN_OPTIONS": f"print_stacktrace=1,log_path={found}",
        }
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:xdist",
                "-p",
                "no:cacheprovider",
                *tests,
            ],
            cwd=ROOT,
            env=environment,
            check=False,
        )
        reports = sorted(Path(folder).glob("found*"))
        for report in reports:
            print(report.read_text(errors="replace"))
        return done.returncode or bool(reports)


if __name__ == "__main__":
    CONTRACT = ROOT / "tests" / "contract" / "in_process"
    sys.exit(main(sys.argv[1:] or ["-k", "selector or uring", str(CONTRACT)]))
