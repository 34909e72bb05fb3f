"""The house: imports only go down the floors; importing it is cheap; options of size."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "anysock"

# From the ground up. A module may import from its own floor and from those below.
FLOORS = [
    {"arguments", "errors", "extras", "hints", "memory", "process", "units"},
    {"loop"},
    {"engines"},
    {"net"},
    {"connection"},
    {"faults"},
    {"events", "groups", "happy_eyeballs", "queues", "runtime"},
    {"admission", "logs", "metrics", "served", "systemd"},
    {"handlers"},
    {"option_values"},
    {"option_checks"},
    {"options"},
    {"keywords"},
    {"option_texts"},
    {"door", "greeting", "housekeeping", "udp", "verdicts"},
    {"server"},
    {"admin"},
    {"workers"},
    {"serving"},
    {"__init__"},
    {"clients", "sheets"},
    {"bench"},
    {"lab"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """The rooms of the house that a module imports when it runs (not only for its types)."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("anysock"):
            _, _, rest = node.module.partition(".")
            found += [rest.split(".")[0]] if rest else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("anysock.")
            ]
    return [room if room in FLOOR_OF else "__init__" for room in found]


def test_every_module_has_a_floor():
    assert {room_of(path) for path in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down(path):
    for room in imports_of(path):
        assert FLOOR_OF[room] <= FLOOR_OF[room_of(path)], f"{path.name} imports {room}, above it"


FORBIDDEN = {"time.monotonic", "time.sleep", "time.time", "threading.Thread", "socket.socket"}


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if room_of(path) not in ("engines", "loop", "lab", "workers")],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_only_engines_read_the_clock_sleep_start_threads_and_open_sockets(path):
    """So that a simulated network can take their place. The lab's subject are sockets and time; and
    a supervisor of processes stands beside the engines, and not on one. The one datagram socket of
    systemd.py leads to the service manager, of which a simulated network has none."""
    used = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if
            isinstance(node, ast.Attribute)}  # fmt: skip
    allowed = {"socket.socket"} if room_of(path) == "systemd" else set()
    assert not used & FORBIDDEN - allowed


def test_nobody_asks_for_the_class_of_an_engine():
    for path in MODULES:
        assert not [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "isinstance"
            and "Engine" in ast.unparse(node.args[1])
        ]


def test_importing_anysock_imports_neither_asyncio_nor_the_command_line():
    program = "import sys, anysock; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    imported = set(done.stdout.split())
    assert not imported & {"asyncio", "click", "rich", "anysock.loop", "anysock.engines.selector"}


def test_every_public_name_has_a_docstring():
    import anysock

    for name in anysock.__all__:
        thing = getattr(anysock, name)
        if name == "Handler":
            continue  # a type alias
        assert (thing.__doc__ or "").strip(), name
