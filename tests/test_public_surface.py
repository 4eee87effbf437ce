"""The public names, what each room names for the others, and the direction of the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import whence

ROOT = Path(whence.__file__).parent
ROOMS = [
    *("lazy", "errors", "object_path", "progress", "files", "run_file"),
    *("data", "results", "model", "records", "signatures", "scoring", "index", "trace", "audit"),
    *("methods", "metrics", "train"),
    *("cleaning", "planning", "confirmation", "self_test"),
    *("bench", "demo"),
    *("report", "serve", "cli"),
]
"""In the order in which they may know each other: a room knows the rooms before it."""
LATE = {("results", "report")}
"""Plain data that knows how to be shown: rendering is imported when it is asked for."""
REPORT_KNOWS = {"lazy", "errors", "files", "data", "results", "report"}
"""A report is a function of results alone, and a picture a file that appears whole; it must know neither model nor
index."""
PRODUCT_KNOWS_NOT = {"bench", "demo"}
"""What measures whence is no part of what it does."""
FILES = sorted(path for path in ROOT.rglob("*.py"))
INITS = sorted(path for path in ROOT.glob("*/__init__.py") if "attach(" in path.read_text("utf-8"))


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def from_imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every import from whence, also inside functions and for types alone."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.startswith("whence.")]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "whence":
            found += [(str(node.module), alias.name) for alias in node.names]
    return found


def imported_rooms(path: Path) -> set[str]:
    return {(f"{module}.{name}").split(".")[1] for module, name in from_imports(path)}


def homes(init: Path) -> dict[str, str]:
    """name -> module, of the imports for types in a room's __init__."""
    tree = ast.parse(init.read_text("utf-8"))
    blocks = [
        node for node in tree.body if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    return {
        alias.name: str(node.module)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    known = ROOMS[: ROOMS.index(room) + 1]
    for other in imported_rooms(path):
        assert other in known or (room, other) in LATE, f"{room} imports {other}"
        assert room != "report" or other in REPORT_KNOWS, f"report imports {other}"
        assert room in {*PRODUCT_KNOWS_NOT, "cli"} or other not in PRODUCT_KNOWS_NOT, f"{room} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_reaches_past_a_rooms_surface(path: Path) -> None:
    """Other rooms are asked for the names that their __init__ lists, never for a module within."""
    room = room_of(path)
    for module, name in from_imports(path):
        parts = module.split(".")
        if len(parts) > 1 and parts[1] != room and room != "__init__":
            assert len(parts) == 2, f"{module} is inside {parts[1]}: from whence.{parts[1]} import {name}"
            init = ROOT / parts[1] / "__init__.py"
            assert not init.exists() or name in homes(init), f"{parts[1]} does not give {name} away"


def test_no_module_imports_a_later_one() -> None:
    """There is an order of all modules in which each knows those before it."""
    tables = {module_of(init): homes(init) for init in ROOT.rglob("__init__.py")}
    modules = {module_of(path): path for path in FILES if path.name != "__init__.py"}
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        known = set()
        for source, name in from_imports(path):
            home = tables.get(source, {}).get(name, source)
            home = f"{source}.{name}" if f"{source}.{name}" in modules else home
            if home in modules and (room_of(path), home.split(".")[1]) not in LATE:
                known.add(home)
        graph[module] = known
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"These modules import each other: {error.args[1]}")


@pytest.mark.parametrize("init", [ROOT / "__init__.py", *INITS], ids=module_of)
def test_a_surface_lists_what_can_be_imported(init: Path) -> None:
    package = import_module(module_of(init))
    assert len(str(package.__doc__)) > 20, "a room says what it is for"
    names = set(package.__all__)
    assert names == set(homes(init)), "__all__ and the imports for types"
    assert names == set(dir(package)), "__all__ and what is attached"
    assert not names & {path.stem for path in init.parent.iterdir()}, "a module would stand in the name's place"
    for name, home in homes(init).items():
        assert getattr(package, name) is getattr(import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def test_the_public_names_are_sorted_and_complete() -> None:
    assert sorted(whence.__all__) == whence.__all__
    for name in whence.__all__:
        assert getattr(whence, name).__name__ == name
        assert getattr(whence, name).__doc__, name


def test_methods_never_import_each_other() -> None:
    shared = {"base", "registry", "representations"}
    modules = {path.stem for path in (ROOT / "methods").glob("*.py")} - shared - {"__init__"}
    for path in (ROOT / "methods").glob("*.py"):
        if path.stem in {*shared, "__init__"}:
            continue
        for module, _ in from_imports(path):
            if module.startswith("whence.methods."):
                assert module.split(".")[2] not in modules, f"{path.stem} imports {module}"


def test_importing_whence_has_no_effects() -> None:
    code = "import sys, logging, whence; print('torch' in sys.modules, logging.root.handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False []"


def test_a_public_name_is_a_function_whatever_was_imported_before() -> None:
    code = (
        "import whence.cleaning, whence.confirmation, whence.planning, whence.index.store, whence;"
        "print([type(getattr(whence, name)).__name__ for name in ('clean', 'confirm', 'plan', 'verify')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['function', 'function', 'function', 'function']"
