"""The house: imports only go down the floors; importing it is cheap; options of size."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import SOURCE, files_of, imports_of, room_of

# From the ground up. A file may import from its own room and from the rooms below.
FLOORS = [
    {"errors", "machine"},
    {"hints"},
    {"extras", "loop"},
    {"engines"},
    {"net"},
    {"streams"},
    {"options", "tasks"},
    {"telemetry"},
    {"faults", "systemd"},
    {"handlers", "traces"},
    {"server"},
    {"admin", "clients"},
    {"workers"},
    {"__init__"},
    {"testing"},
    {"sim"},
    {"bench"},
    {"lab"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MODULES = files_of()


def test_every_module_has_a_floor():
    assert {room_of(path) for path in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down(path):
    for imported in imports_of(path):
        above = f"{path.relative_to(SOURCE)} imports {imported.relative_to(SOURCE)}, above it"
        assert FLOOR_OF[room_of(imported)] <= FLOOR_OF[room_of(path)], above


def test_rooms_on_one_floor_do_not_import_each_other():
    for path in MODULES:
        for imported in imports_of(path):
            same_floor = FLOOR_OF[room_of(imported)] == FLOOR_OF[room_of(path)]
            assert not same_floor or room_of(imported) == room_of(path), (path, imported)


def test_files_import_each_other_in_no_circle():
    done: set[Path] = set()

    def visit(path: Path, via: tuple[Path, ...]) -> None:
        assert path not in via, [str(each.relative_to(SOURCE)) for each in (*via, path)]
        if path not in done:
            for imported in imports_of(path):
                visit(imported, (*via, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


# The doors to the real machine: what a simulated one must be able to stand in for.
DOORS = {
    "os.listdir", "os.open", "random.SystemRandom", "record.created", "resource.getrlimit",
    "socket.getaddrinfo", "socket.getnameinfo", "socket.socket", "socket.socketpair",
    "threading.Thread", "time.clock_gettime", "time.monotonic", "time.monotonic_ns",
    "time.perf_counter", "time.sleep", "time.time",
}  # fmt: skip

# Where they may be opened, besides engines, loop and machine, whose subject they are.
ROOMS_WITH_DOORS = {
    "lab": "its subject are sockets and time",
    "bench": "it measures the real machine from outside, by its own clock",
    "workers": "a supervisor of processes stands beside the engines, and not on one",
    "cli": "it is a program on the real machine",
}
FILES_WITH_DOORS = {
    "traces/writer.py": ({"os.open"}, "a file of its own, which belongs to no simulated host"),
    "sim/wall.py": (
        {"time.monotonic"},
        "it tells how fast histories are, and decides nothing in one",
    ),
    "systemd.py": ({"socket.socket"}, "leads to the service manager, which is never simulated"),
    "telemetry/logs/limits.py": ({"record.created"}, "logging's records carry the wall clock"),
    "telemetry/logs/output.py": ({"record.created"}, "logging's records carry the wall clock"),
}


def doors_in(source: str) -> set[str]:
    """The doors that are opened there, by whatever names their modules and they have there."""
    tree, used = ast.parse(source), set()
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            used |= {f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner, _, name = ast.unparse(node).rpartition(".")
            used.add(f"{names.get(owner, owner)}.{name}")
    return used & DOORS


@pytest.mark.parametrize(
    "source",
    [
        "import time; time.monotonic()",
        "import time as t; t.monotonic()",
        "from time import monotonic",
        "from time import monotonic as now",
    ],
)
def test_a_door_is_seen_by_whatever_name(source):
    assert doors_in(source) == {"time.monotonic"}


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in MODULES
        if room_of(path) not in {"engines", "loop", "machine", *ROOMS_WITH_DOORS}
    ],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_only_engines_open_doors_to_the_real_machine(path):
    used = doors_in(path.read_text())
    allowed, _reason = FILES_WITH_DOORS.get(str(path.relative_to(SOURCE)), (set(), ""))
    assert used == allowed


def test_nobody_asks_for_the_class_of_an_engine():
    for path in MODULES:
        assert not [
            node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "isinstance"
            and "Engine" in ast.unparse(node.args[1])
        ]


def test_nobody_compares_the_names_of_engines():
    """What is asked of an engine is in its entry; a new one needs no other file to know it."""
    from anysock.engines import ENGINES

    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and "sys.modules" not in ast.unparse(node):
                compared = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
                assert not compared & set(ENGINES), (path, ast.unparse(node))


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
        if name in {"Handler", "Lifespan"}:
            continue  # type aliases
        assert (thing.__doc__ or "").strip(), name
